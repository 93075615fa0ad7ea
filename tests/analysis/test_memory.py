"""What an analysis will take is stated, and refused where it is more than there is."""

import dataclasses

import pytest
import torch
from torch import nn

import invkit
from invkit.analysis import memory
from invkit.analysis.memory import MemoryPlan, state_memory
from invkit.errors import ResourceError
from invkit.sampling.stack import IN_MEMORY
from invkit.training.processes import allocator

MB = 10**6


def stated(*, limit=None, samples=4, refined=2, side=128):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 1, 3, padding=1))
    split, x = invkit.Split(invkit.load(network), "2"), torch.zeros(1, 1, side, side)
    said = []
    plan = state_memory([split], [], x, samples=samples, refined=refined, limit=limit, say=said.append)
    (line,) = said
    return plan, line


@pytest.fixture
def in_use(monkeypatch):
    monkeypatch.setattr(memory, "memory_in_use", lambda: 300 * MB)
    return 300 * MB


@pytest.fixture
def keeping(monkeypatch):
    """As if the command line had told glibc to keep memory."""
    monkeypatch.setattr(allocator._State, "kept", allocator.KEPT)
    monkeypatch.setattr(memory, "LARGE", 1)


def test_the_statement_is_the_sum_of_its_parts(in_use):
    plan = MemoryPlan(sampling=50 * MB, refinement=80 * MB, structures=70 * MB, held=20 * MB, disk=7 * MB)
    assert plan.needed == (80 + 20) * MB + memory.WORKSPACE
    assert dataclasses.replace(plan, kernels=300 * MB).needed == (80 + 20 + 300) * MB
    line = plan.statement(in_use)
    for words in (
        "at most about 600 MB",
        "300 MB in use",
        "80 MB for refining",
        "20 MB for images kept",
        "7 MB of disk",
    ):
        assert words in line
    least = dataclasses.replace(plan, refinement=0)
    assert least.needed == plan.needed - 10 * MB
    assert "70 MB for structures" in least.statement(in_use)


def test_without_refinement_structures_count(in_use):
    """Activations of 8 channels: of 4 crops of 96 x 96 pixels, each with its derivative; scans in float64."""
    plan, _ = stated(refined=0)
    assert plan.refinement == 0
    assert plan.structures >= 2 * 8 * 4 * 4 * 96**2


def test_of_a_large_image_only_a_window_counts(in_use):
    small, large = (stated(side=side, refined=2)[0] for side in (256, 512))
    assert large.structures == small.structures
    assert large.refinement == small.refinement
    assert large.sampling > 2 * small.sampling


def test_an_activation_counts_with_its_pixels_and_samples_do_not(in_use):
    few, _ = stated(samples=4)
    many, _ = stated(samples=10_000)
    pixels = 128 * 128
    assert few.refinement >= 2 * 8 * 4 * pixels  # two images at a time, one activation each at the least
    assert many.needed <= few.needed + 3 * IN_MEMORY
    assert many.disk > 10_000 * 4 * pixels > few.disk


def test_what_does_not_fit_is_refused_with_what_to_lower(in_use):
    plan, _ = stated(refined=4)
    needed = in_use + plan.needed
    stated(limit=needed, refined=4)
    with pytest.raises(ResourceError, match="--refine none"):
        stated(limit=needed - 1, refined=4)
    with pytest.raises(ResourceError, match="cut the image"):
        stated(limit=in_use)


def test_what_the_c_library_keeps_is_stated_where_tensors_are_large(in_use, keeping, monkeypatch):
    plan, line = stated()
    assert f"at most about {memory._size(in_use + plan.needed + allocator.KEPT)}" in line
    monkeypatch.setattr(memory, "LARGE", 2**60)
    _, line = stated()
    assert f"at most about {memory._size(in_use + plan.needed + allocator.TRIM)}" in line
    monkeypatch.setattr(allocator._State, "kept", 0)
    _, line = stated()
    assert f"at most about {memory._size(in_use + plan.needed)}" in line


def test_it_is_handed_back_before_an_analysis_is_refused(in_use, keeping):
    plan, _ = stated(limit=in_use + 10**9)
    assert allocator.kept() == allocator.KEPT
    _, line = stated(limit=in_use + plan.needed)
    assert allocator.kept() == 0
    assert f"at most about {memory._size(in_use + plan.needed)}" in line
