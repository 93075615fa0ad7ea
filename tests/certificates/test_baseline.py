"""The baseline is refined to the same epsilon, counts what Phi itself confirms, and says when it was not beaten."""

from dataclasses import replace

import pytest
import torch
from torch import nn

import invkit
from invkit.certificates.baseline import BASELINE_SAMPLES, baseline, baseline_found, plausible_spread
from invkit.certificates.judge import Placed
from invkit.fiber.distance import activation_distance
from invkit.sampling.layer import ScaledLayer
from invkit.statistics.tree import as_json


@pytest.fixture(scope="module")
def scene():
    blur = nn.Conv2d(1, 1, 3, padding=1, bias=False)
    nn.init.constant_(blur.weight, 1 / 9)
    denoiser = invkit.load(blur)
    split = invkit.Split(denoiser, "output")
    images = 100 * torch.randn(4, 1, 24, 24, generator=torch.Generator().manual_seed(0))
    scale = float(activation_distance(split.phi(images[1:]), split.phi(images[:1])).mean())
    return ScaledLayer.of(split, scale, 0.3, scale).at(images[:1]), denoiser, images[:1]


def test_it_refines_as_many_as_the_sampler_under_test_but_no_more_than_eight(scene):
    few = baseline(scene[0], count=3, seed=0, image=0)
    many = baseline(scene[0], count=100, seed=0, image=0)
    assert len(few.images) == 3
    assert len(many.images) == BASELINE_SAMPLES == 8
    torch.testing.assert_close(few.proposals, many.proposals[:3])
    _, denoiser, x = scene
    centre = denoiser(x)
    away = (many.proposals - centre).square().mean().sqrt()
    assert float(away / (x - centre).square().mean().sqrt()) == pytest.approx(1, abs=0.05)


def test_its_figures_are_those_of_what_phi_confirms(scene):
    reference, _, _ = scene
    found = baseline(scene[0], count=8, seed=0, image=0)
    distance = activation_distance(reference.split.phi(found.images), reference.z) / reference.scale
    certified = found.images[distance <= 1e-3]
    beside = baseline_found([found], [found], seed=0)
    spread = beside.certified
    assert beside.refined == 8
    assert beside.count == len(certified) >= 2
    assert spread.value == pytest.approx(certified.double().std(0).square().mean().sqrt().item(), rel=1e-4)
    assert beside.spread == spread
    assert as_json(beside)["spread_hu"] == spread.to_json()


def test_nothing_was_refined_so_nothing_is_said():
    assert baseline_found([], [], seed=0) is None


def test_only_what_is_plausible_too_counts_against_a_trained_model(scene):
    found = baseline(scene[0], count=8, seed=0, image=0)
    certified = found.certificates.holds
    inside = torch.arange(8) % 2 == 0
    rows = tuple({"inside": bool(flag)} for flag in inside)
    placed = replace(found, placed=Placed(rows, {"inside": True}, 0.1))
    kept = found.images[certified & inside]
    count, spread = plausible_spread([placed], seed=0)
    assert count == len(kept) >= 2
    assert spread.value == pytest.approx(kept.double().std(0).square().mean().sqrt().item(), rel=1e-4)
    beside = baseline_found([placed], [placed], seed=0)
    assert beside.spread == beside.own == spread
    assert beside.count == int(certified.sum()) > beside.plausible == count
    nothing = replace(found, placed=Placed(({"inside": False},) * 8, {"inside": True}, 0.1))
    assert plausible_spread([nothing], seed=0) == (0, None)


def test_a_judge_is_asked_about_the_refined_images(scene):
    class Judge:
        def place(self, images, x, f_x):
            self.seen = (images, x, f_x)
            return Placed(({"inside": True},) * len(images), {"inside": True}, 0.1)

    judge = Judge()
    found = baseline(scene[0], count=3, seed=0, image=0, judge=judge)
    assert torch.equal(judge.seen[0], found.images)
    assert torch.equal(judge.seen[1], scene[2])
    torch.testing.assert_close(judge.seen[2], scene[1](scene[2]))
    assert len(found.placed.rows) == 3
