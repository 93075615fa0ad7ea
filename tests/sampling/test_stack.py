"""Draws in a file are those that were written, whatever part is read, and leave nothing behind."""

import gc
import os
import subprocess
import sys

import pytest
import torch

from invkit import artifacts
from invkit.errors import ResourceError
from invkit.sampling import stack as module
from invkit.sampling.stack import Stack, StackedImages

SIZE = (1, 5, 7)


@pytest.fixture(params=["memory", "file"])
def place(request, monkeypatch, tmp_path):
    if request.param == "file":
        monkeypatch.setattr(module, "IN_MEMORY", 0)
    return tmp_path


def images(count):
    return torch.randn(count, *SIZE, generator=torch.Generator().manual_seed(count))


def filled(whole, folder):
    stack = Stack(len(whole), SIZE, folder)
    for part in torch.split(whole, 4):
        stack.append(part)
    return stack


def test_what_was_written_is_read_whatever_part_is_asked_for(place):
    whole = images(60)
    stack = filled(whole, place)
    assert len(stack) == 60 and stack.shape == (60, *SIZE)
    assert torch.equal(stack.tensor, whole)
    for rows in (slice(0, 1), slice(3, 30), slice(50, 100), slice(None, None, 7), slice(-2, None)):
        assert torch.equal(stack[rows], whole[rows])
    assert torch.equal(torch.cat(list(stack.parts())), whole)
    assert torch.equal(Stack.of(torch.split(whole, 9), 60, place).tensor, whole)


def test_no_file_is_seen_and_its_space_comes_back(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "IN_MEMORY", 0)
    before = set(os.listdir("/proc/self/fd"))
    stack = filled(images(8), tmp_path)
    assert not list(tmp_path.iterdir())
    whole = stack.tensor
    del stack
    gc.collect()
    assert torch.equal(whole, images(8))  # a tensor outlives the stack
    del whole
    gc.collect()
    assert set(os.listdir("/proc/self/fd")) == before


def test_a_change_of_the_tensor_changes_nobody_elses(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "IN_MEMORY", 0)
    stack = filled(images(4), tmp_path)
    stack.tensor.zero_()
    assert torch.equal(stack.tensor, images(4))


def test_too_little_space_is_a_typed_error(monkeypatch, tmp_path):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "IN_MEMORY", 0)
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(ResourceError, match="No space left on device"):
        Stack(3, SIZE, tmp_path)
    monkeypatch.undo()
    monkeypatch.setattr(module, "IN_MEMORY", 0)
    with pytest.raises(ResourceError, match="draw fewer samples"):
        Stack(3, SIZE, tmp_path / "missing")


def test_going_through_a_file_takes_the_memory_of_a_part(tmp_path):
    code = """
import resource, sys, torch
from pathlib import Path
from invkit.sampling.stack import Stack
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
stack = Stack(1200, (1, 256, 256), Path(sys.argv[1]))
float(torch.ones(25, 1, 256, 256).double().sum())
before = peak()
for k in range(0, 1200, 25):
    stack.append(torch.full((25, 1, 256, 256), float(k)))
assert sum(float(part.double().sum()) for part in stack.parts()) == 25 * 65536 * sum(range(0, 1200, 25))
print(peak() - before)
"""
    found = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True)
    assert int(found.stdout) < 100e6  # of 315 MB


def test_stacks_are_saved_in_parts_and_read_back_as_one_tensor(place, tmp_path):
    whole = torch.randn(60, 2, *SIZE, generator=torch.Generator().manual_seed(0))
    stacks = [filled(whole[:, image], place) for image in range(2)]
    tensors = {
        "samples": StackedImages(stacks),
        "x": whole[0],
        "odd": torch.arange(3),
        "one": torch.tensor([True]),
    }
    path = tmp_path / "samples.safetensors"
    sha256 = artifacts.save_in_parts(path, tensors, kind="samples", meta={"a": 1})
    found = artifacts.load(path, kind="samples", sha256=sha256)
    assert torch.equal(found.tensors["samples"], whole)
    for name in ("x", "odd", "one"):
        assert torch.equal(found.tensors[name], tensors[name])
    assert found.meta == {"a": 1}
    plain = {name: found.tensors[name] for name in tensors}
    artifacts.save(tmp_path / "plain.safetensors", plain, kind="samples", meta={"a": 1})
    again = artifacts.load(tmp_path / "plain.safetensors", kind="samples")
    assert all(torch.equal(again.tensors[name], plain[name]) for name in plain)
