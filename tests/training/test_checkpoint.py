import json
import os

import pytest
import torch

from invkit.errors import ArtifactError, ResourceError
from invkit.training.checkpoint import Checkpoints, CheckpointWarning


def state(step):
    return {"a": torch.full((3,), float(step)), "b": torch.arange(4)}


def filled(folder, steps, scheduled=()):
    checkpoints = Checkpoints(folder)
    for step in steps:
        checkpoints.save(step, state(step), {"scheduled": step in scheduled})
    return checkpoints


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_checkpoint_comes_back_and_only_the_last_two_stay(tmp_path):
    checkpoints = filled(tmp_path, [1, 2, 10, 30], scheduled=[30])
    assert checkpoints.steps() == [10, 30]
    stored = checkpoints.newest()
    assert stored.meta["step"] == 30
    assert torch.equal(stored.tensors["a"], state(30)["a"])


def test_the_newest_scheduled_one_stays_however_many_interruptions_follow(tmp_path):
    checkpoints = filled(tmp_path, [10, 20, 23, 26, 29], scheduled=[10, 20])
    assert checkpoints.steps() == [20, 26, 29]
    assert checkpoints.newest().meta["step"] == 29
    assert checkpoints.newest(scheduled=True).meta["step"] == 20


def test_tensors_may_share_memory(tmp_path):
    weight = torch.arange(4.0)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, {"one": weight, "two": weight, "view": weight[1:]}, {})
    tensors = checkpoints.read(1).tensors
    assert tensors["one"].tolist() == tensors["two"].tolist() == [0, 1, 2, 3]
    assert tensors["view"].tolist() == [1, 2, 3]


def flip(path):
    data = bytearray(path.read_bytes())
    data[-3] ^= 16
    path.write_bytes(data)


def future(path):
    sidecar = json.loads(path.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps({**sidecar, "schema": "invkit.artifact/99"}))


DAMAGE = {
    "one bit flipped": flip,
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-7]),
    "empty": lambda path: path.write_bytes(b""),
    "missing": lambda path: path.unlink(),
    "sidecar empty": lambda path: path.with_suffix(".json").write_bytes(b""),
    "sidecar of a future version": future,
    "sidecar of another file": lambda path: path.with_suffix(".json").write_bytes(
        (path.parent / "step-000000010.json").read_bytes()
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_is_passed_over_aloud_and_set_aside(tmp_path, damage):
    checkpoints = filled(tmp_path, [10, 20])
    DAMAGE[damage](checkpoints.path(20))
    with pytest.warns(CheckpointWarning, match="step 20 is refused"):
        stored = checkpoints.newest()
    assert stored.meta["step"] == 10
    assert checkpoints.steps() == [10]
    assert "step-000000020.json.refused" in names(tmp_path)
    checkpoints.save(20, state(20), {})
    assert checkpoints.newest().meta["step"] == 20


def test_none_is_left_when_all_are_damaged(tmp_path):
    checkpoints = filled(tmp_path, [10, 20])
    flip(checkpoints.path(10))
    flip(checkpoints.path(20))
    with pytest.warns(CheckpointWarning):
        assert checkpoints.newest() is None
    assert Checkpoints(tmp_path / "nowhere").newest() is None


def test_a_write_that_was_cut_short_is_no_damage(tmp_path):
    checkpoints = filled(tmp_path, [10, 20])
    checkpoints.path(20).with_suffix(".json").unlink()
    (tmp_path / ".step-000000030.safetensors.abc").write_bytes(b"half")
    assert checkpoints.newest().meta["step"] == 10
    checkpoints.clean()
    assert names(tmp_path) == ["step-000000010.json", "step-000000010.safetensors"]


def test_another_file_of_the_same_step_is_refused(tmp_path):
    checkpoints = filled(tmp_path, [10])
    with pytest.raises(ArtifactError, match="was changed"):
        checkpoints.read(10, sha256="0" * 64)


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("nth", [1, 2])
def test_a_failed_write_leaves_the_others_intact_and_nothing_stray(tmp_path, monkeypatch, call, nth):
    checkpoints = filled(tmp_path, [10, 20])
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    real, calls = getattr(os, call), []

    def failing(*args):
        calls.append(args)
        if len(calls) >= nth:
            raise OSError(28, "No space left on device")
        return real(*args)

    monkeypatch.setattr(os, call, failing)
    with pytest.raises(ResourceError, match="No space left"):
        checkpoints.save(30, state(30), {})
    monkeypatch.undo()
    left = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert {path: data for path, data in left.items() if "30" not in path.name} == before
    assert not [path for path in left if path.name.startswith(".")]
    assert checkpoints.newest().meta["step"] == 20
