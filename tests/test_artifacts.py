"""Trained files: whole or not at all, changed by no bit, and never able to run code."""

import errno
import hashlib
import json
import os
import random

import pytest
import torch

from invkit import artifacts
from invkit.artifacts import (
    fingerprint,
    load,
    read_sidecar,
    save,
    sha256_file,
    state_fingerprint,
    write_atomic,
)
from invkit.errors import ArtifactError, ResourceError, UsageError

META = {"scale": 0.125, "layer": "3", "betas": (0.5, 0.9), "nested": {"é": [1, None, True]}}


def tensors() -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    return {
        "weight": torch.randn(2, 3, generator=random),
        "scalar": torch.tensor(1.5, dtype=torch.float64),
        "empty": torch.zeros(0, 3),
        "half": torch.ones(3, dtype=torch.bfloat16),
        "flag": torch.tensor([True, False]),
    }


@pytest.fixture
def stored(tmp_path):
    path = tmp_path / "net.safetensors"
    save(path, tensors(), kind="vae", meta=META)
    return path


def sidecar_of(path):
    return path.with_suffix(".json")


def test_what_is_saved_is_loaded_bit_for_bit(stored):
    found = load(stored, kind="vae")
    for name, tensor in tensors().items():
        assert found.tensors[name].dtype == tensor.dtype
        assert torch.equal(found.tensors[name], tensor)
    assert found.tensors.keys() == tensors().keys()
    assert found.meta == {**META, "betas": [0.5, 0.9]}
    assert found.kind == "vae"
    assert found.path == stored
    assert found.sha256 == sha256_file(stored) == hashlib.sha256(stored.read_bytes()).hexdigest()
    assert load(stored, kind="vae", sha256=found.sha256).sha256 == found.sha256


def test_save_returns_the_sha256_and_is_reproducible(tmp_path):
    digests = {save(tmp_path / f"{k}.safetensors", tensors(), kind="vae", meta=META) for k in range(2)}
    assert len(digests) == 1
    assert digests.pop() == sha256_file(tmp_path / "0.safetensors")
    assert save(tmp_path / "2.safetensors", tensors(), kind="cinn", meta=META) != sha256_file(
        tmp_path / "1.safetensors"
    )


def test_memory_layout_and_sharing_are_no_concern_of_the_caller(tmp_path):
    path = tmp_path / "net.safetensors"
    whole = torch.arange(24.0).view(2, 3, 2, 2).requires_grad_()
    given = {
        "first": whole,
        "tied": whole,
        "view": whole[1:],
        "transposed": whole.transpose(0, 1),
        "channels_last": whole.detach().clone().to(memory_format=torch.channels_last),
    }
    save(path, given, kind="denoiser", meta={})
    found = load(path, kind="denoiser").tensors
    assert found.keys() == given.keys()
    assert all(torch.equal(found[name], given[name]) for name in given)


def test_keys_of_the_provenance_are_strings_when_read_back(tmp_path):
    path = tmp_path / "net.safetensors"
    save(path, {}, kind="vae", meta={"counts": {10: "a", 9: "b"}})
    assert load(path, kind="vae").meta == {"counts": {"10": "a", "9": "b"}}


def test_provenance_that_is_not_json_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ValueError):
        save(tmp_path / "net.safetensors", tensors(), kind="vae", meta={"nll": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_a_file_cannot_be_its_own_sidecar(tmp_path):
    with pytest.raises(UsageError, match=r"safetensors"):
        save(tmp_path / "net.json", tensors(), kind="vae", meta=META)
    assert list(tmp_path.iterdir()) == []


def test_any_changed_bit_of_the_file_is_refused(stored):
    data = stored.read_bytes()
    # All bits of the length field and of the ends, and a sample of all others.
    places = {*range(64), *range(8 * len(data) - 64, 8 * len(data))}
    places |= set(random.Random(0).sample(range(8 * len(data)), 300))
    for bit in places:
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        stored.write_bytes(changed)
        with pytest.raises(ArtifactError, match="was changed"):
            load(stored, kind="vae")
    stored.write_bytes(data)
    load(stored, kind="vae")


def test_any_changed_bit_of_the_sidecar_is_refused_or_means_the_same(stored):
    data = sidecar_of(stored).read_bytes()
    original = load(stored, kind="vae")
    for bit in range(0, 8 * len(data), 7):  # every byte, and each of the eight bits in turn
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        sidecar_of(stored).write_bytes(changed)
        try:
            found = load(stored, kind="vae")
        except ArtifactError:
            continue
        # The hexadecimal digit of an escape has two cases.
        assert (found.meta, found.sha256) == (original.meta, original.sha256)


@pytest.mark.parametrize("cut", [0, 1, 7, 8, 100, -1])
def test_a_file_that_is_cut_off_is_refused(stored, cut):
    stored.write_bytes(stored.read_bytes()[:cut])
    with pytest.raises(ArtifactError, match="was changed"):
        load(stored, kind="vae")


def test_a_file_of_another_kind_is_refused(stored):
    with pytest.raises(ArtifactError, match="of kind 'vae', wanted 'cinn'"):
        load(stored, kind="cinn")


def test_a_file_with_another_sha256_than_promised_is_refused(stored):
    with pytest.raises(ArtifactError, match="its provenance says " + "0" * 64):
        load(stored, kind="vae", sha256="0" * 64)


def test_a_missing_file_or_sidecar_is_refused(stored):
    data = stored.read_bytes()
    stored.unlink()
    with pytest.raises(ArtifactError, match="cannot read"):
        load(stored, kind="vae")
    stored.write_bytes(data)
    sidecar_of(stored).unlink()
    with pytest.raises(ArtifactError, match=r"has no sidecar net\.json"):
        load(stored, kind="vae")
    sidecar_of(stored).mkdir()
    with pytest.raises(ArtifactError, match="cannot read"):
        load(stored, kind="vae")


def write_pair(path, data: bytes, **changes) -> None:
    sidecar = {
        "schema": artifacts.SCHEMA,
        "kind": "vae",
        "sha256": hashlib.sha256(data).hexdigest(),
        "meta": {},
        **changes,
    }
    path.write_bytes(data)
    sidecar_of(path).write_text(json.dumps(sidecar))


@pytest.mark.parametrize(
    "changes",
    [
        {"sha256": None},
        {"sha256": "abc"},
        {"sha256": 7},
        {"kind": None},
        {"meta": []},
        {"meta": None},
        {"schema": "invkit.artifact/2"},
        {"schema": None},
    ],
)
def test_a_sidecar_whose_fields_are_unusable_is_refused(stored, changes):
    """Without a sha256 nothing would be compared, and any damage would pass."""
    write_pair(stored, stored.read_bytes(), **changes)
    with pytest.raises(ArtifactError, match=r"lacks a usable|has schema"):
        load(stored, kind="vae")


@pytest.mark.parametrize("missing", ["schema", "kind", "sha256", "meta"])
def test_a_sidecar_that_lacks_a_field_is_refused(stored, missing):
    sidecar = read_sidecar(stored)
    del sidecar[missing]
    sidecar_of(stored).write_text(json.dumps(sidecar))
    with pytest.raises(ArtifactError):
        load(stored, kind="vae")


@pytest.mark.parametrize(
    "hostile",
    [
        b"",
        b"[]",
        b"null",
        b'"text"',
        b"\xff\xfe\x00",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"schema":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"n":' + b"9" * 10_000 + b"}",
        b"{'schema': 1}",
        b"cos\nsystem\n(S'true'\ntR.",
    ],
    ids=lambda hostile: repr(hostile[:12]),
)
def test_a_hostile_sidecar_is_refused(stored, hostile):
    sidecar_of(stored).write_bytes(hostile)
    with pytest.raises(ArtifactError):
        load(stored, kind="vae")


@pytest.mark.parametrize("depth", [900, 990, 100_000])
def test_deeply_nested_provenance_is_refused(stored, depth):
    sidecar = json.dumps({**read_sidecar(stored), "meta": {"a": 0}})
    sidecar_of(stored).write_text(sidecar.replace('"a": 0', '"a": ' + "[" * depth + "]" * depth))
    with pytest.raises(ArtifactError):
        load(stored, kind="vae")


@pytest.mark.parametrize(
    "data",
    [b"", b"not a tensor file", b"\x02\0\0\0\0\0\0\0{}", b"\xff" * 16, b"\x80\x04K\x01."],
    ids=lambda data: repr(data[:8]),
)
def test_a_file_that_is_not_ours_is_refused_even_with_a_fitting_sidecar(tmp_path, data):
    path = tmp_path / "net.safetensors"
    write_pair(path, data)
    with pytest.raises(
        ArtifactError, match=r"not a safetensors file|provenance differs from that of the file"
    ):
        load(path, kind="vae")


def test_a_sidecar_of_another_file_is_refused(stored, tmp_path):
    other = tmp_path / "other.safetensors"
    save(other, {"weight": torch.ones(1)}, kind="vae", meta=META)
    sidecar_of(stored).write_bytes(sidecar_of(other).read_bytes())
    with pytest.raises(ArtifactError, match="was changed"):
        load(stored, kind="vae")


@pytest.mark.parametrize("call", ["replace", "fsync", "fdopen"])
def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path, monkeypatch, call):
    path = tmp_path / "report.json"
    write_atomic(path, b"old")

    def fail(*_args, **_kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(ResourceError, match="No space left on device") as caught:
        write_atomic(path, b"new")
    assert caught.value.exit_code == 6
    monkeypatch.undo()
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["report.json"]


def test_an_interrupt_while_writing_leaves_no_temporary_file(tmp_path, monkeypatch):
    def interrupt(_descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(tmp_path / "file", b"data")
    assert list(tmp_path.iterdir()) == []


def test_a_save_that_is_cut_short_between_its_two_files_is_noticed(stored, monkeypatch):
    replace = os.replace

    def only_the_data(source, target):
        if str(target).endswith(".json"):
            raise OSError(errno.EDQUOT, "Disk quota exceeded")
        replace(source, target)

    monkeypatch.setattr(os, "replace", only_the_data)
    with pytest.raises(ResourceError, match="quota"):
        save(stored, {"weight": torch.ones(1)}, kind="vae", meta=META)
    monkeypatch.undo()
    with pytest.raises(ArtifactError, match="was changed"):
        load(stored, kind="vae")


def test_what_cannot_be_a_folder_is_a_resource_error(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ResourceError, match="cannot write"):
        write_atomic(tmp_path / "file" / "net.safetensors", b"data")
    with pytest.raises(ResourceError, match="cannot write"):
        write_atomic(tmp_path / ("n" * 300), b"data")


def test_folders_are_made(tmp_path):
    write_atomic(tmp_path / "a" / "b" / "c", b"data")
    assert (tmp_path / "a" / "b" / "c").read_bytes() == b"data"


def test_a_fingerprint_is_the_sha256_of_canonical_json():
    assert fingerprint({"b": [1, 2.5, None], "a": "é"}) == (
        hashlib.sha256(b'{"a":"\\u00e9","b":[1,2.5,null]}').hexdigest()
    )
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    assert fingerprint((1, 2)) == fingerprint([1, 2])
    different = [1, 1.0, "1", True, None, [1], {"1": 1}, {"a": 1}, {"a": [1]}, [1, 1], [[1], 1]]
    assert len({fingerprint(value) for value in different}) == len(different)
    with pytest.raises(ValueError):
        fingerprint({"nll": float("inf")})


def test_a_state_fingerprint_ignores_order_and_memory_layout():
    state = tensors()
    assert state_fingerprint(state) == state_fingerprint(dict(reversed(state.items())))
    image = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(1))
    same = [
        image,
        image.clone().requires_grad_(),
        image.to(memory_format=torch.channels_last),
        image.transpose(2, 3).contiguous().transpose(2, 3),
    ]
    assert len({state_fingerprint({"x": tensor}) for tensor in same}) == 1


def test_a_state_fingerprint_tells_names_dtypes_shapes_and_bits_apart():
    base = torch.zeros(2, 2)
    nudged = base.clone()
    nudged[1, 1] = torch.finfo(torch.float32).tiny
    states = [
        {},
        {"a": base},
        {"b": base},
        {"a": base, "b": base},
        {"a": base.flatten()},
        {"a": base.to(torch.float64)},
        {"a": base.to(torch.int32)},
        {"a": nudged},
        {"a": -base},
        {"a": torch.zeros(0)},
        {"a": torch.zeros(0, 2)},
        {"a": torch.tensor(0.0)},
        {"a": torch.tensor(False)},
    ]
    assert len({state_fingerprint(state) for state in states}) == len(states)


def test_parts_are_told_by_the_beginning_of_a_name(tmp_path):
    tensors = {"flow.a": torch.ones(2), "flow.b.c": torch.zeros(1), "flower": torch.ones(1)}
    path = tmp_path / "x.safetensors"
    artifacts.save(path, tensors, kind="test", meta={})
    part = artifacts.load(path, kind="test").part("flow")
    assert part.keys() == {"a", "b.c"}
    assert torch.equal(part["a"], torch.ones(2))


def test_what_was_trained_for_something_else_is_refused_by_its_fields(tmp_path):
    path = tmp_path / "x.safetensors"
    artifacts.save(path, {"a": torch.ones(1)}, kind="test", meta={"data": "one", "seed": 0, "steps": 3})
    stored = artifacts.load(path, kind="test")
    stored.require({"data": "one", "seed": 0})
    with pytest.raises(
        ArtifactError, match=r"x.safetensors was trained for something else: its data, lost differ"
    ):
        stored.require({"data": "two", "seed": 0, "lost": 1})
