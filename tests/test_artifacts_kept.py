"""Tensors that are kept between runs: computed once, and again where they are damaged."""

import os

import pytest
import torch

from invkit import artifacts


def test_what_is_kept_is_computed_once_for_each_request(tmp_path):
    calls = []

    def compute():
        calls.append(1)
        return {"a": torch.full((2,), float(len(calls)))}

    one, other = {"kind": "test", "seed": 0}, {"kind": "test", "seed": 1}
    assert [float(artifacts.kept(tmp_path, one, compute)["a"][0]) for _ in range(3)] == [1, 1, 1]
    assert float(artifacts.kept(tmp_path, other, compute)["a"][0]) == 2
    assert [float(artifacts.kept(None, one, compute)["a"][0]) for _ in range(2)] == [3, 4]
    assert len(list((tmp_path / "test").iterdir())) == 4


@pytest.mark.parametrize("suffix", [".safetensors", ".json"])
@pytest.mark.parametrize("damage", [lambda path: path.write_bytes(path.read_bytes()[:-9]), os.unlink])
def test_what_is_kept_and_damaged_is_computed_again_and_mended(tmp_path, suffix, damage):
    request = {"kind": "test"}
    artifacts.kept(tmp_path, request, lambda: {"a": torch.zeros(9)})
    (path,) = (tmp_path / "test").glob(f"*{suffix}")
    damage(path)
    for _ in range(2):
        found = artifacts.kept(tmp_path, request, lambda: {"a": torch.ones(9)})
        assert torch.equal(found["a"], torch.ones(9))
    (path,) = (tmp_path / "test").glob("*.safetensors")
    assert torch.equal(artifacts.load(path, kind="test").tensors["a"], torch.ones(9))


def test_nothing_is_kept_where_nothing_can_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    for value in (1.0, 2.0):
        found = artifacts.kept(tmp_path / "file", {"kind": "test"}, lambda: {"a": torch.tensor(value)})  # noqa: B023
        assert float(found["a"]) == value
