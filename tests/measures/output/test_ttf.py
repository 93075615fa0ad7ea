"""Task transfer of discs that are blurred by Gaussians, whose transfer is known."""

import math

import numpy as np
import pytest
import torch

from invkit.images.disc import disc
from invkit.measures.output.ttf import FREQUENCIES, Edges, edge_profile, task_transfer

SIDE, CENTRE, RADIUS, CONTRAST = 64, (32, 31), 12.0, 30.0


def blurred(deviation):
    """Return a disc blurred by a Gaussian, in the Fourier domain."""
    frequency = np.hypot(np.fft.fftfreq(SIDE)[:, None], np.fft.fftfreq(SIDE)[None, :])
    response = torch.from_numpy(np.exp(-2 * (np.pi * deviation * frequency) ** 2))
    shape = CONTRAST * disc(SIDE, SIDE, CENTRE, RADIUS)
    return torch.fft.ifft2(torch.fft.fft2(shape) * response).real


def profiles(*images):
    return np.stack([edge_profile(image, CENTRE, 2 * RADIUS) for image in images])


def gaussian(deviation, level):
    """Return the frequency at which a Gaussian's transfer falls to a level."""
    return math.sqrt(-math.log(level) / 2) / (math.pi * deviation)


@pytest.mark.parametrize("deviation", [1.5, 2.5])
def test_f_that_is_a_gaussian_has_its_transfer(deviation):
    """The input is a disc of pixels, nearly sharp: what is measured at the output is the Gaussian alone, but for the pixel."""
    found = task_transfer(
        [Edges(profiles(blurred(0.5)), profiles(blurred(deviation)), RADIUS, CONTRAST)], seed=0
    )
    pixel = np.sinc(FREQUENCIES)
    exact = np.exp(-2 * (np.pi * deviation * FREQUENCIES) ** 2) * pixel
    low = FREQUENCIES < 0.3
    assert found.output[low] == pytest.approx(exact[low], abs=0.03)
    ratio = found.output[low] / found.image[low]
    change = np.exp(-2 * np.pi**2 * (deviation**2 - 0.25) * FREQUENCIES[low] ** 2)
    assert ratio == pytest.approx(change, abs=0.04)
    assert found.figures_at["f50"].value == pytest.approx(gaussian(deviation, 0.5), rel=0.05)
    assert found.figures_at["f10"].value == pytest.approx(gaussian(deviation, 0.1), rel=0.05)


def test_what_stays_sharp_beyond_half_a_cycle_has_no_such_frequency():
    sharp = profiles(blurred(0.0))
    found = task_transfer([Edges(sharp, sharp, RADIUS, CONTRAST)], seed=0)
    assert found.figures_at["f10"] is None
    assert found.figures()["f10_per_px"] is None


def test_intervals_are_over_places():
    same, different = (
        [Edges(profiles(*[blurred(1.0)] * 6), profiles(*map(blurred, deviations)), RADIUS, CONTRAST)]
        for deviations in ([1.5] * 6, [1.2, 1.3, 1.5, 1.5, 1.7, 1.9])
    )
    alike, apart = (task_transfer(edges, seed=0).figures_at["f50"] for edges in (same, different))
    assert alike.high - alike.low < 1e-6
    assert apart.low < apart.value < apart.high and apart.high - apart.low > 0.005


def test_a_profile_is_the_mean_over_a_ring():
    rows, columns = np.mgrid[:SIDE, :SIDE]
    distance = torch.from_numpy(np.hypot(rows - CENTRE[0], columns - CENTRE[1]))
    found = edge_profile(distance, CENTRE, 20.0)
    middles = (np.arange(len(found)) + 0.5) * 0.25
    assert found[8:] == pytest.approx(middles[8:], abs=0.25)
