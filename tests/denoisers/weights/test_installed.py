"""Weights that a user adds: names, hashes, one meaning for a tag, and no code that is run (faults 2, 3, 17, 26)."""

import argparse
import hashlib
import json
import os

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from invkit import artifacts
from invkit.denoisers.loaded import load_denoiser
from invkit.denoisers.spec import Affine, Denoiser, Upstream, Weights
from invkit.denoisers.weights import read as weights_module
from invkit.denoisers.weights.install import install, stated_model
from invkit.denoisers.weights.installed import installed, models_folder, remove, with_installed
from invkit.denoisers.weights.rename import fitted
from invkit.errors import ArtifactError, DenoiserError, UnknownNameError, UsageError


def build(padding: str = "reflect") -> nn.Module:
    network = nn.Sequential()
    network.add_module("first", nn.Conv2d(1, 4, 3, padding=1, padding_mode=padding))
    network.add_module("relu", nn.ReLU())
    network.add_module("last", nn.Conv2d(4, 1, 3, padding=1, padding_mode=padding))
    return network


THEIRS = Upstream(
    "theirs",
    {"net.0": "first", "net.2": "last"},
    Affine(10.0, 20.0),
    lambda: build("zeros"),
    "padded with zeros",
)
SPEC = Denoiser(name="small", build=build, preprocessing=Affine(0.0, 100.0), upstreams=(THEIRS,))


def own_state(seed: int = 0) -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    return {name: torch.randn(t.shape, generator=random) for name, t in build().state_dict().items()}


def their_state(seed: int = 0) -> dict[str, torch.Tensor]:
    return {
        name.replace("first", "net.0").replace("last", "net.2"): tensor
        for name, tensor in own_state(seed).items()
    }


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "models"


@pytest.fixture
def theirs(tmp_path):
    """A checkpoint as their training script writes it."""
    path = tmp_path / "best.pt"
    options = argparse.Namespace(lr=1e-4, devices=[0, 1], trainer="small")
    torch.save({"args": options, "iteration": 7, "model_state_dict": their_state()}, path)
    return path


def test_a_foreign_checkpoint_becomes_the_function_that_it_was_there(theirs, folder):
    record, there = install(SPEC, str(theirs), "theirs", folder=folder)
    assert not there
    assert record.meta["source_sha256"] == hashlib.sha256(theirs.read_bytes()).hexdigest()
    assert record.sha256 == artifacts.sha256_file(record.path)
    assert (record.meta["upstream"], record.meta["source"]) == ("theirs", "best.pt")
    loaded = load_denoiser(with_installed(SPEC, folder), "theirs")
    reference = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 1, 3, padding=1))
    reference.load_state_dict({name.removeprefix("net."): t for name, t in their_state().items()})
    x = torch.randn(2, 1, 12, 14, generator=torch.Generator().manual_seed(1)) * 50
    with torch.no_grad():
        expected = reference((x - 10) / 20) * 20 + 10
    torch.testing.assert_close(loaded(x), expected, rtol=1e-5, atol=1e-4)
    assert loaded.weights_tag == "theirs"


def test_the_default_weights_stay_what_they_were(theirs, folder, tmp_path):
    install(SPEC, str(theirs), "theirs", folder=folder)
    assert with_installed(SPEC, tmp_path / "none") is SPEC
    path = tmp_path / "own.safetensors"
    save_file(own_state(3), path)
    mine = Weights("mine", str(path), artifacts.sha256_file(path), "nothing", "MIT")
    spec = Denoiser(
        name="small", build=build, preprocessing=Affine(0.0, 1.0), weights=(mine,), upstreams=(THEIRS,)
    )
    assert [weights.tag for weights in with_installed(spec, folder).weights] == ["mine", "theirs"]
    with pytest.raises(UsageError, match="provided by the plugin"):
        install(spec, str(theirs), "mine", folder=folder)


def test_own_names_are_taken_as_they_are_and_keep_the_denoisers_preprocessing(tmp_path, folder):
    save_file(own_state(), tmp_path / "a.safetensors")
    record, _ = install(
        SPEC, str(tmp_path / "a.safetensors"), "own", trained_on="much", terms="MIT", folder=folder
    )
    (weights,) = with_installed(SPEC, folder).weights
    assert (weights.trained_on, weights.license, weights.preprocessing) == ("much", "MIT", SPEC.preprocessing)
    assert weights.build is None
    found = load_file(record.path)
    assert all(torch.equal(found[name], tensor) for name, tensor in own_state().items())


def test_a_file_trained_by_invkit_says_what_it_is(tmp_path, folder):
    path = tmp_path / "trained.safetensors"
    meta = {"name": "small", "preprocessing": Affine(5.0, 6.0).describe(), "trained_on": "40 phantoms"}
    artifacts.save(path, own_state(), kind="denoiser", meta=meta)
    assert stated_model(path) == "small"
    with pytest.raises(ArtifactError, match="cannot read the weights"):
        stated_model(tmp_path / "none")
    record, _ = install(SPEC, str(path), "trained", folder=folder)
    assert record.meta["trained_on"] == "40 phantoms"
    assert with_installed(SPEC, folder).weights[0].preprocessing == Affine(5.0, 6.0)


def test_a_normalisation_that_is_given_goes_first(theirs, folder):
    install(SPEC, str(theirs), "other", preprocessing=Affine(1.0, 2.0), folder=folder)
    assert with_installed(SPEC, folder).weights[0].preprocessing == Affine(1.0, 2.0)


def test_a_tag_names_the_same_weights_for_ever(theirs, folder, tmp_path):
    first, _ = install(SPEC, str(theirs), "theirs", folder=folder)
    assert install(SPEC, str(theirs), "theirs", folder=folder) == (first, True)
    other = tmp_path / "other.pt"
    torch.save(their_state(1), other)
    before = first.path.read_bytes()
    with pytest.raises(UsageError, match="names other weights already"):
        install(SPEC, str(other), "theirs", folder=folder)
    with pytest.raises(UsageError, match="or another normalisation"):
        install(SPEC, str(theirs), "theirs", preprocessing=Affine(1.0, 2.0), folder=folder)
    assert first.path.read_bytes() == before
    assert remove("small.theirs", folder) == first.path
    assert not first.path.exists()
    assert with_installed(SPEC, folder) is SPEC
    with pytest.raises(UsageError, match="named other weights already"):
        install(SPEC, str(other), "theirs", folder=folder)
    assert install(SPEC, str(theirs), "theirs", folder=folder)[1] is False
    with pytest.raises(UnknownNameError, match=r"there are: small\.theirs"):
        remove("small.lost", folder)


def test_a_damaged_file_is_refused_and_can_be_added_again(theirs, folder):
    record, _ = install(SPEC, str(theirs), "theirs", folder=folder)
    data = bytearray(record.path.read_bytes())
    data[-1] ^= 1
    record.path.write_bytes(data)
    with pytest.raises(ArtifactError, match="not the expected file"):
        load_denoiser(with_installed(SPEC, folder), "theirs")
    assert install(SPEC, str(theirs), "theirs", folder=folder)[1] is False
    load_denoiser(with_installed(SPEC, folder), "theirs")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("net.2.bias"), r"does not fit theirs's small: it lacks net\.2\.bias"),
        (lambda s: s.update({"net.4.weight": torch.zeros(1)}), r"the network does not, net\.4\.weight"),
        (lambda s: s.update({"net.0.bias": torch.zeros(5)}), r"net\.0\.bias \(5,\) instead of \(4,\)"),
        (lambda s: s["net.0.weight"].view(-1)[3:4].fill_(float("nan")), r"not finite in first\.weight"),
        (
            lambda s: (s.clear(), s.update(odd=torch.zeros(1))),
            r"its names are odd. Known names are its own names \(first",
        ),
    ],
)
def test_what_does_not_fit_is_named_as_in_the_file(change, message, tmp_path, folder):
    state = their_state()
    change(state)
    torch.save(state, tmp_path / "a.pt")
    with pytest.raises(ArtifactError, match=message):
        install(SPEC, str(tmp_path / "a.pt"), "tag", folder=folder)
    assert not folder.exists() or installed(folder) == ([], [])


def test_wrappers_around_the_network_are_taken_off():
    state = {f"module._orig_mod.{name}": tensor for name, tensor in their_state().items()}
    found = fitted(state, SPEC, label="a")
    assert found.upstream is THEIRS
    assert all(torch.equal(found.tensors[name], tensor) for name, tensor in own_state().items())


def test_an_upstream_that_forgets_a_module_is_the_plugins_fault():
    spec = Denoiser(
        name="small",
        build=build,
        preprocessing=Affine(0.0, 1.0),
        upstreams=(Upstream("half", {"a": "first"}),),
    )
    with pytest.raises(ArtifactError, match=r"half of small has no name for last\.weight"):
        fitted(own_state(), spec, label="a")


@pytest.mark.parametrize("modules", [{}, {"a": "first", "b": "first"}])
def test_an_upstream_names_each_module_once(modules):
    with pytest.raises(DenoiserError, match="must name each of ours once"):
        Upstream("theirs", modules)
    with pytest.raises(DenoiserError, match="is defined twice"):
        Denoiser(name="a", build=build, preprocessing=Affine(0.0, 1.0), upstreams=(THEIRS, THEIRS))


class Evil:
    def __reduce__(self):
        return os.mkdir, ("evil-ran",)


def test_code_in_a_file_is_not_run(tmp_path, folder, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"model_state_dict": their_state(), "args": argparse.Namespace(evil=Evil())}, "a.pt")
    with pytest.raises(ArtifactError, match="only tensors"):
        install(SPEC, "a.pt", "evil", folder=folder)
    assert not (tmp_path / "evil-ran").exists()


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04broken", b"\x08\0\0\0\0\0\0\0{broken}", b"12345678{"])
def test_what_is_no_state_dict_is_one_error(data, tmp_path, folder):
    (tmp_path / "a.pt").write_bytes(data)
    with pytest.raises(ArtifactError):
        install(SPEC, str(tmp_path / "a.pt"), "tag", folder=folder)


def test_every_mutant_of_a_checkpoint_is_weights_or_one_error(theirs, tmp_path, folder):
    good = theirs.read_bytes()
    random = torch.Generator().manual_seed(0)
    for number in range(60):
        data = bytearray(good)
        for place in torch.randint(len(data), (4,), generator=random).tolist():
            data[place] = int(torch.randint(256, (1,), generator=random))
        (tmp_path / "mutant.pt").write_bytes(data)
        try:
            install(SPEC, str(tmp_path / "mutant.pt"), f"m{number}", folder=folder)
        except ArtifactError:
            continue


def test_sparse_tensors_are_refused(tmp_path, folder):
    torch.save({"net.0.weight": torch.zeros(2, 2).to_sparse()}, tmp_path / "a.pt")
    with pytest.raises(ArtifactError, match="sparse"):
        install(SPEC, str(tmp_path / "a.pt"), "tag", folder=folder)


def test_hashes_are_checked(theirs, folder):
    right = hashlib.sha256(theirs.read_bytes()).hexdigest()
    with pytest.raises(ArtifactError, match="not the expected file"):
        install(SPEC, str(theirs), "a", sha256="0" * 64, folder=folder)
    with pytest.raises(UsageError, match="64 hexadecimal digits, got '12'"):
        install(SPEC, str(theirs), "a", sha256="12", folder=folder)
    install(SPEC, str(theirs), "a", sha256=right.upper(), folder=folder)
    with pytest.raises(ArtifactError, match="cannot read"):
        install(SPEC, str(theirs.with_name("lost.pt")), "a", folder=folder)


def test_a_url_needs_https_and_a_hash(theirs, folder, monkeypatch):
    with pytest.raises(UsageError, match="add --sha256"):
        install(SPEC, "https://example.org/a.pt", "a", folder=folder)
    with pytest.raises(ArtifactError, match="https only"):
        install(SPEC, "http://example.org/a.pt", "a", sha256="0" * 64, folder=folder)
    data = theirs.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    asked = []

    class Answer:
        def __init__(self):
            self.headers = {"Content-Length": str(len(data))}
            self.parts = [data, b""]

        def read1(self, size):
            return self.parts.pop(0)

        def __enter__(self):
            return self

        def __exit__(self, *args):
            return None

    class Opener:
        def open(self, request, timeout):
            asked.append(request.full_url)
            return Answer()

    monkeypatch.setattr(weights_module, "_opener", Opener)
    record, _ = install(SPEC, "https://example.org/a.pt", "a", sha256=digest, folder=folder)
    assert asked == ["https://example.org/a.pt"]
    assert record.meta["source"] == "https://example.org/a.pt"
    with pytest.raises(ArtifactError, match="not the expected file"):
        install(SPEC, "https://example.org/a.pt", "b", sha256="0" * 64, folder=folder)


@pytest.mark.parametrize("tag", ["../up", "A", "a.b", "", "a/b"])
def test_a_tag_is_a_plain_name(tag, theirs, folder):
    with pytest.raises(UsageError, match="must match"):
        install(SPEC, str(theirs), tag, folder=folder)


@pytest.mark.parametrize(
    "change",
    [
        lambda sidecar: sidecar.pop("sha256"),
        lambda sidecar: sidecar["meta"].update(model="../up"),
        lambda sidecar: sidecar["meta"].update(tag="other"),
        lambda sidecar: sidecar["meta"].update(preprocessing={"kind": "magic"}),
        lambda sidecar: sidecar["meta"].pop("license"),
        lambda sidecar: sidecar.update(meta=[]),
    ],
)
def test_a_broken_record_breaks_no_other(change, theirs, folder):
    install(SPEC, str(theirs), "good", folder=folder)
    record, _ = install(SPEC, str(theirs), "bad", folder=folder)
    sidecar = json.loads(record.path.with_suffix(".json").read_text())
    change(sidecar)
    record.path.with_suffix(".json").write_text(json.dumps(sidecar))
    found, problems = installed(folder)
    assert [item.name for item in found] == ["small.good"]
    assert len(problems) == 1
    assert "small.bad.json cannot be used" in problems[0]
    assert [weights.tag for weights in with_installed(SPEC, folder).weights] == ["good"]


def test_weights_of_a_project_that_the_plugin_forgot_are_left_out(theirs, folder):
    install(SPEC, str(theirs), "theirs", folder=folder)
    spec = Denoiser(name="small", build=build, preprocessing=Affine(0.0, 1.0))
    assert with_installed(spec, folder) is spec


def test_the_folder_is_the_users_own(monkeypatch, tmp_path):
    monkeypatch.setenv("INVKIT_CACHE", str(tmp_path))
    assert models_folder() == tmp_path / "models"
    monkeypatch.delenv("INVKIT_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert models_folder() == tmp_path / ".local" / "share" / "invkit" / "models"
