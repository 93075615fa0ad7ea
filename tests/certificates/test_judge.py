"""Traits of real images are kept for what decides them, and measured again for anything else."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from invkit.certificates.judge import Judge
from invkit.data.patches import PatchSampler
from invkit.data.slices import load_slices
from invkit.plugins.load import load


class Scaled(nn.Module):
    """x times a number that no fingerprint sees."""

    def __init__(self, factor):
        super().__init__()
        self._factor = factor

    def forward(self, x):
        return self._factor * x


@pytest.fixture(scope="module")
def slices():
    return load_slices(["phantoms:12"], seed=0)


def judge(slices, keep, factor=0.5, *, size=(32, 32), seed=0):
    return Judge(load(Scaled(factor)), None, slices, size, 0.25, seed, keep)


def test_kept_traits_are_those_measured(slices, tmp_path, monkeypatch):
    plain, first = judge(slices, None).real, judge(slices, tmp_path).real
    monkeypatch.setattr(Judge, "_real", None)  # nothing is measured
    again = judge(slices, tmp_path).real
    for found in (first, again):
        torch.testing.assert_close(found.traits.texture, plain.traits.texture, rtol=0, atol=0)
        torch.testing.assert_close(found.traits.noise, plain.traits.noise, rtol=0, atol=0, equal_nan=True)
        torch.testing.assert_close(found.noise, plain.noise, rtol=0, atol=0)
        assert bool(found.traits.critic.isnan().all() and found.traits.code_nll.isnan().all())
    assert plain.traits.texture.shape == (128, 10)


@pytest.mark.parametrize("other", [{"factor": 0.4}, {"size": (32, 24)}, {"seed": 1}])
def test_other_code_size_or_seed_finds_nothing(slices, tmp_path, other):
    one = judge(slices, tmp_path).real
    assert not torch.equal(judge(slices, tmp_path, **other).real.traits.texture, one.traits.texture)
    assert len(list((tmp_path / "real").glob("*.safetensors"))) == 2


def test_traits_follow_the_denoiser(slices):
    """x - f(x) is (1 - factor) x, so its power rises by the square of that."""
    half, quarter = (judge(slices, None, factor).real.traits.texture for factor in (0.5, 0.75))
    torch.testing.assert_close(half - quarter, torch.full_like(half, 0.60206), rtol=0, atol=1e-4)


def test_an_image_is_placed_by_its_own_traits(slices):
    """A held-out patch is like its own kind; ten times as much noise is not, whatever f makes of it."""
    at = judge(slices, None)
    patch = PatchSampler(slices.part("test"), 32, dose=0.25, seed=3).batch(0, 1).x
    loud = patch + 300 * torch.randn(patch.shape, generator=torch.Generator().manual_seed(0))
    like, unlike = (at.place(x, 0.5 * x) for x in (patch, loud))
    assert like.inside and not unlike.inside
    assert unlike.row["texture"] > 0.99
    assert like.known == unlike.known and "texture" in like.known
    assert like.unlike == () and "texture" in unlike.unlike
    only = replace(
        unlike, row={**unlike.row, "noise": 0.001, "texture": 0.996, "critic": 0.32, "code_nll": 0.21}
    )
    assert only.unlike == ("texture",)
    assert like.figures()["real_outside"] == at.real.outside
