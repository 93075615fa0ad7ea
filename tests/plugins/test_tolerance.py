"""What a tolerance in repeat scans means for the denoisers that come along: a disc is judged alike on small and large images."""

from functools import cache

import pytest
import torch

from invkit.analysis.subject import choose_subject
from invkit.certificates.certify import refine_proposals
from invkit.fiber.tangent import Tangent
from invkit.images.disc import disc
from invkit.noise.simulated import noise_of
from invkit.plugins.load import load
from invkit.split.split import Split
from invkit.tolerance.layer import TolerancedLayer

LAYERS = [("chen2017", "3"), ("yang2018", "3")]
PLACE = (48, 56)  # soft tissue in all crops


@cache
def toleranced(name, layer, side):
    f = load(name)
    subject = choose_subject(None, seed=0)
    noise = noise_of(subject.x, subject.spacing, stationary=True)
    x = subject.x[..., :side, :side].contiguous()
    split = Split(f, layer)
    covariance = noise.cropped(noise.deviation[:side, :side].contiguous())
    return TolerancedLayer.of(split, x, f(x), covariance, seed=0, tangent=Tangent(split.phi_grad))


def moved(layer, contrast, radius):
    side = layer.x.shape[-1]
    shape = contrast * disc(side, side, PLACE, radius)[None, None].to(layer.x)
    return float(layer.windows.distance(layer.split.phi(layer.x + shape), layer.split.phi(layer.x)))


@pytest.mark.parametrize(("name", "layer"), LAYERS)
@pytest.mark.parametrize("radius", [2.0, 8.0])
def test_a_disc_is_as_far_from_x_on_a_small_image_as_on_a_large_one(name, layer, radius):
    small, large = (moved(toleranced(name, layer, side), 100.0, radius) for side in (96, 128))
    assert small == pytest.approx(large, rel=0.12)  # S is measured on noise of its own for each
    assert large > 3 * toleranced(name, layer, 128).tolerance


@pytest.mark.parametrize(("name", "layer"), LAYERS)
def test_the_headline_lies_above_what_storage_rounds(name, layer):
    marks = toleranced(name, layer, 96).marks
    assert marks.at == "grey_level"
    assert marks.values["float32"] < 1e-3 * marks.tolerance
    assert marks.values["bfloat16"] < marks.tolerance < marks.values["repeat"]


@pytest.mark.parametrize(("name", "layer"), LAYERS)
def test_no_certified_image_holds_a_lesion_of_40_hu(name, layer):
    """Two proposals with a disc of radius 8 px: what is certified of them has lost nearly all of it."""
    at = toleranced(name, layer, 96)
    shape = disc(96, 96, PLACE, 8.0)[None, None].to(at.x)
    noise = at.covariance.draws(2, torch.Generator().manual_seed(0))
    found = refine_proposals(at.x + noise + 40 * shape, at, at.x, at.split.denoiser)
    assert found.holds.all()
    left = ((found.images - at.x) * shape).sum((1, 2, 3)) / shape.sum()
    assert left.abs().max() < 6


def test_yang2018_keeps_more_contrast_and_more_noise_than_chen2017():
    kept, left = {}, {}
    for name, layer in LAYERS:
        at = toleranced(name, layer, 96)
        f = at.split.denoiser
        shapes = torch.cat([disc(96, 96, PLACE, radius)[None, None] for radius in (1.0, 2.0, 4.0, 8.0)])
        change = f(at.x + 10 * shapes) - at.f_x
        kept[name] = (change * shapes).sum((1, 2, 3)) / (10 * shapes.square().sum((1, 2, 3)))
        noise = at.covariance.draws(8, torch.Generator().manual_seed(1))
        left[name] = float((f(at.f_x + noise)).std(0).square().mean().sqrt() / noise.square().mean().sqrt())
    assert (kept["yang2018"] > kept["chen2017"] + 0.05).all()
    for values in kept.values():
        assert (values.diff() > 0).all() and 0.2 < values[0] < 0.75 and 0.75 < values[-1] < 1
    assert 0.2 < left["chen2017"] < left["yang2018"] < 0.8
