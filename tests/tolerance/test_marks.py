"""Marks of the identity and of scaled copies against their closed forms."""

from dataclasses import replace

import pytest
import torch
from scaled_network import Scaled

from invkit.noise.covariance import NoiseCovariance
from invkit.split.split import Split
from invkit.tolerance.marks import GREY_LEVEL, marks_of
from invkit.tolerance.unit import unit_of
from invkit.tolerance.windows import Windows

LEVEL = 20.0


def marks(factor=1.0):
    split = Split(Scaled(factor), "inner")
    x = 50 + 10 * torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    noise = NoiseCovariance(torch.full((64, 64), LEVEL))
    generator = torch.Generator().manual_seed(1)

    def draws(count):
        return noise.draws(count, generator)

    f_x = split.denoiser(x)
    windows = Windows.of(split, x, unit_of(split, f_x, draws))
    return marks_of(split, x, f_x, draws, windows), windows, split, x


def test_one_grey_level_is_the_part_of_the_noise_that_changes_f_by_it():
    found, _windows, _, _ = marks()
    assert found.at == "grey_level"
    assert found.hu_at_output == pytest.approx(GREY_LEVEL)
    # In the mean over the image it is GREY_LEVEL / (LEVEL sqrt(2)); the largest of 225 windows is more.
    mean = GREY_LEVEL / (LEVEL * 2**0.5)
    assert mean < found.tolerance < 2 * mean
    assert found.values["tenth_of_repeat"] == 0.1 and found.values["repeat"] == 1


def test_where_f_shows_less_of_the_noise_the_tolerance_is_larger():
    weak, strong = marks(0.2)[0], marks(1.0)[0]
    assert weak.tolerance == pytest.approx(5 * strong.tolerance, rel=0.02)


def test_where_no_noise_changes_f_by_a_grey_level_the_headline_is_a_tenth_of_a_repeat():
    found = marks(0.01)[0]
    assert found.at == "tenth_of_repeat"
    assert "grey_level" not in found.values
    assert 0 < found.hu_at_output < GREY_LEVEL


def test_a_grey_level_beyond_a_repeat_scan_is_no_headline():
    _, windows, split, x = marks()
    tiny = replace(windows, unit=replace(windows.unit, s=tuple(1e-3 * s for s in windows.unit.s)))
    noise = NoiseCovariance(torch.full((64, 64), LEVEL))
    generator = torch.Generator().manual_seed(1)
    found = marks_of(split, x, split.denoiser(x), lambda count: noise.draws(count, generator), tiny)
    assert found.at == "tenth_of_repeat"
    assert found.values["grey_level"] > 1


def test_rounding_is_that_of_the_formats():
    found, windows, split, x = marks()
    z = split.phi(x)
    s = windows.unit.s[0]
    for name, rounded in (
        ("bfloat16", z.bfloat16().float()),
        ("int8", torch.clamp((z / (z.abs().max() / 127)).round(), -127, 127) * (z.abs().max() / 127)),
    ):
        expected = Windows.of_windows((rounded - z) / s, 8).max()
        assert found.values[name] == pytest.approx(float(expected), rel=1e-5)
    assert found.values["float32"] < 1e-5 < found.values["bfloat16"] < found.values["int8"] < 1
