"""VIF against closed forms, an implementation of its own kind, and torchmetrics."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from scipy.signal import convolve2d

from invkit.errors import InputError
from invkit.quality.vif import vif


def pair(side=64, noise=25.0):
    """Smooth random images in HU, and the same with white noise."""
    random = torch.Generator().manual_seed(0)
    coarse = torch.randn(3, 1, side // 8, side // 8, generator=random) * 120
    target = torch.nn.functional.interpolate(coarse, size=(side, side), mode="bicubic")
    target = target + 10 * torch.randn(target.shape, generator=random)
    return target + noise * torch.randn(target.shape, generator=random), target


def by_hand(prediction, target, visual_noise=2.0):
    """VIF-P pixel by pixel, in numpy, with two-dimensional windows and a branch for every case of the model."""
    p, t = prediction.astype(np.float64), target.astype(np.float64)
    above = below = 0.0
    for scale in range(1, 5):
        side = 2 ** (5 - scale) + 1
        ticks = np.arange(side) - (side - 1) / 2
        window = np.exp(-(ticks[:, None] ** 2 + ticks[None, :] ** 2) / (2 * (side / 5) ** 2))
        window /= window.sum()
        mean = partial(convolve2d, in2=window, mode="valid")
        if scale > 1:
            p, t = mean(p)[::2, ::2], mean(t)[::2, ::2]
        variance_t, variance_p = mean(t * t) - mean(t) ** 2, mean(p * p) - mean(p) ** 2
        shared = mean(t * p) - mean(t) * mean(p)
        for of_t, of_p, both in zip(variance_t.flat, variance_p.flat, shared.flat, strict=True):
            if of_t <= 1e-10:
                continue
            gain = both / of_t if of_p > 1e-10 and both > 0 else 0.0
            left = max(of_p - gain * both, 0.0)
            above += math.log2(1 + gain**2 * of_t / (left + visual_noise))
            below += math.log2(1 + of_t / visual_noise)
    return above / below


def test_it_is_what_the_formula_says():
    prediction, target = pair()
    found = vif(prediction, target)
    assert found.dtype == torch.float64
    expected = [by_hand(p[0].numpy(), t[0].numpy()) for p, t in zip(prediction, target, strict=True)]
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)
    expected = [by_hand(p[0].numpy(), t[0].numpy(), 30.0) for p, t in zip(prediction, target, strict=True)]
    np.testing.assert_allclose(vif(prediction, target, noise=30.0).numpy(), expected, rtol=1e-6)


def test_it_is_torchmetrics_in_double_precision():
    from torchmetrics.functional import image

    for prediction, target in (pair(), pair(side=80, noise=3.0), pair()[::-1]):
        expected = [
            image.visual_information_fidelity(p[None].double(), t[None].double()).item()
            for p, t in zip(prediction, target, strict=True)
        ]
        np.testing.assert_allclose(vif(prediction, target).numpy(), expected, rtol=1e-7)


def test_equal_images_share_everything_and_an_offset_takes_nothing_away():
    _, target = pair()
    np.testing.assert_allclose(vif(target, target).numpy(), 1.0, rtol=1e-9)
    np.testing.assert_allclose(vif(target + 40, target).numpy(), 1.0, rtol=1e-6)
    flat = torch.full((1, 1, 48, 48), 7.0)
    assert vif(flat, flat).item() == 1.0


@pytest.mark.parametrize("gain", [0.3, 1.0, 1.7])
def test_contrast_alone_has_a_closed_form(gain):
    """For p = g t nothing is distorted: each window gives log(1 + g^2 s / n) of log(1 + s / n)."""
    ramp = (
        torch.arange(48.0).double().expand(1, 1, 48, 48) * 4
    )  # a ramp has one variance in all windows of a scale
    above = below = 0.0
    slope, size = 4.0, 48
    for scale, side in enumerate((17, 9, 5, 3)):
        place = np.arange(side) - side // 2
        weights = np.exp(-0.5 * (place / (side / 5)) ** 2)
        weights /= weights.sum()
        variance = (slope * 2**scale) ** 2 * float((weights * place**2).sum())
        size = size if scale == 0 else (size - side + 2) // 2
        windows = (size - side + 1) ** 2
        above += windows * math.log(1 + gain**2 * variance / 2.0)
        below += windows * math.log(1 + variance / 2.0)
    assert vif(gain * ramp, ramp).item() == pytest.approx(above / below, rel=1e-9)


def test_more_noise_leaves_less_and_what_is_turned_around_leaves_nothing():
    found = [vif(*pair(noise=noise)).mean().item() for noise in (1.0, 5.0, 25.0, 125.0)]
    assert found == sorted(found, reverse=True)
    assert 0 < found[-1] < found[0] < 1
    _, target = pair()
    assert vif(-target, target).abs().max() == 0.0


def test_clipping_is_the_benchmarks():
    prediction, target = pair()
    far = target * 40
    np.testing.assert_allclose(
        vif(prediction * 40, far, clip=True).numpy(),
        vif((prediction * 40).clamp(-1024, 1900), far.clamp(-1024, 1900)).numpy(),
        rtol=1e-12,
    )


def test_small_images_and_other_shapes_are_refused():
    with pytest.raises(InputError, match="41 x 41"):
        vif(torch.zeros(1, 1, 40, 60), torch.zeros(1, 1, 40, 60))
    with pytest.raises(InputError):
        vif(torch.zeros(1, 1, 50, 50), torch.zeros(1, 1, 50, 51))
    assert vif(torch.zeros(1, 1, 41, 41), torch.zeros(1, 1, 41, 41)).shape == (1,)
