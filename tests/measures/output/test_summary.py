"""What becomes of structures and noise at the output of networks for which it is known."""

import numpy as np
import pytest
import torch
from scaled_network import Scaled
from torch import nn

from invkit.fiber.tangent import Tangent
from invkit.measures.output.observer import laguerre_gauss
from invkit.measures.output.scans import contrast_for
from invkit.measures.output.spots import spots_of
from invkit.measures.output.summary import measure_output
from invkit.noise.covariance import NoiseCovariance
from invkit.split.split import Split
from invkit.statistics.tree import as_json
from invkit.tolerance.layer import TolerancedLayer

LEVEL, SIDE = 20.0, 96


def layers_of(network, *, side=SIDE, images=1, mean=40.0):
    covariance = NoiseCovariance(torch.full((side, side), LEVEL))
    x = mean + covariance.draws(images, torch.Generator().manual_seed(0))
    split = Split(network, "input")
    tangent = Tangent(split.phi_grad)
    return [
        TolerancedLayer.of(split, one, split.denoiser(one), covariance, seed=0, tangent=tangent)
        for one in x.split(1)
    ]


def figures(network, **options):
    return as_json(measure_output(layers_of(network, **options), spacing=0.5, seed=0).figures())


def gaussian(deviation=1.0, side=9):
    row = torch.exp(-((torch.arange(side) - side // 2) ** 2) / (2 * deviation**2))
    kernel = row[:, None] * row[None, :]
    return kernel / kernel.sum()


class Blur(nn.Module):
    """A Gaussian filter, and of what it takes away what exceeds a threshold."""

    def __init__(self, threshold=None):
        super().__init__()
        self.register_buffer("kernel", gaussian()[None, None])
        self.threshold = threshold

    def forward(self, x):
        smooth = nn.functional.conv2d(nn.functional.pad(x, [4] * 4, mode="reflect"), self.kernel)
        return (
            smooth
            if self.threshold is None
            else smooth + nn.functional.softshrink(x - smooth, self.threshold)
        )


class Global(nn.Module):
    """Takes out half of the image's mean."""

    def forward(self, x):
        return x - x.mean((2, 3), keepdim=True) / 2


@pytest.fixture(scope="module")
def identity():
    return figures(Scaled())


@pytest.fixture(scope="module")
def blurred():
    return figures(Blur())


def test_the_identity_changes_nothing(identity):
    assert identity["tissue"] == "soft tissue" and identity["places"] == 16
    assert identity["detectability_kept"]["value"] == pytest.approx(1, abs=1e-4)
    assert [row["radius_px"] for row in identity["observer"]] == [1, 2, 4, 8]
    for row in identity["observer"]:
        assert row["radius_mm"] == row["radius_px"] / 2
        assert row["in_detectability"]["low"] < 2 < row["in_detectability"]["high"]
        assert row["out_detectability"]["value"] == pytest.approx(row["in_detectability"]["value"], rel=1e-4)
    noise = identity["noise"]
    assert noise["in_hu"]["value"] == pytest.approx(LEVEL, rel=0.02)
    for name in ("hu", "mean_per_px"):
        assert noise[f"out_{name}"]["value"] == pytest.approx(noise[f"in_{name}"]["value"], rel=1e-4)
    for name in ("ttf_low", "ttf_high"):
        assert identity[name]["out"] == pytest.approx(identity[name]["in"], abs=1e-4)


def test_contrasts_fall_with_the_size(identity):
    contrasts = [row["contrast_hu"] for row in identity["observer"]]
    assert contrasts == sorted(contrasts, reverse=True) and contrasts[0] > 8 * contrasts[-1]


def test_half_the_image_has_half_the_noise_and_all_of_the_detectability():
    found = figures(Scaled(0.5))
    assert found["noise"]["out_hu"]["value"] == pytest.approx(found["noise"]["in_hu"]["value"] / 2, rel=1e-4)
    assert found["detectability_kept"]["value"] == pytest.approx(1, abs=1e-4)
    assert found["ttf_low"]["f50_per_px"]["value"] == pytest.approx(
        found["ttf_low"]["in_f50_per_px"]["value"], rel=1e-4
    )


def test_a_filter_leaves_noise_and_edges_as_its_response_says(blurred):
    def response(frequency):
        offsets = np.arange(9) - 4
        row = gaussian().sum(0).double().numpy()
        return np.array([abs((row * np.exp(-2j * np.pi * one * offsets)).sum()) for one in frequency])

    noise = blurred["noise"]
    middles = np.array(noise["frequencies_per_px"])
    ratio = np.array(noise["out_power"]) / np.array(noise["in_power"])
    # The lowest bands hold some of what a ramp of power has above them.
    assert ratio[3:12] == pytest.approx(response(middles)[3:12] ** 2, abs=0.03)
    assert ratio[1:3] == pytest.approx(response(middles)[1:3] ** 2, abs=0.08)
    low = np.array(blurred["frequencies_per_px"]) < 0.3
    frequencies = np.array(blurred["frequencies_per_px"])[low]
    for name in ("ttf_low", "ttf_high"):
        curve = np.array(blurred[name]["out"])[low] / np.array(blurred[name]["in"])[low]
        assert curve == pytest.approx(response(frequencies), abs=0.04)
        assert blurred[name]["f50_per_px"]["value"] < blurred[name]["in_f50_per_px"]["value"]


def test_an_observer_of_a_filter_detects_what_the_closed_form_says(blurred):
    """The filter can be undone, but five channels cannot: U^T H takes the place of U^T."""
    (spots,) = spots_of(layers_of(Blur()), 16, seed=0)
    kernel = gaussian().double()[None, None]
    size = (spots.images.shape[-2], spots.images.shape[-1])
    exact = NoiseCovariance(torch.full(size, LEVEL, dtype=torch.float64))
    for row in blurred["observer"]:
        radius = row["radius_px"]
        centre = tuple(spots.centres[0].tolist())
        channels = laguerre_gauss(size, centre, 2 * radius + 1, min(23, 3 * radius + 3))[:, None]
        seen = nn.functional.conv2d(channels, kernel, padding=4)
        noise = seen.flatten(1) @ exact.apply(seen).flatten(1).T
        signal = seen.flatten(1) @ (contrast_for([spots], radius) * spots.disc(radius)[0].double().flatten())
        truth = float((signal @ torch.linalg.solve(noise, signal)).sqrt())
        assert row["out_detectability"]["low"] < truth < row["out_detectability"]["high"]
        kept = row["detectability_kept"]
        assert kept["value"] == pytest.approx(truth / 2, abs=max(0.02, kept["high"] - kept["value"]))


def test_a_threshold_keeps_strong_edges_sharper_than_weak_ones():
    found = figures(Blur(threshold=15.0))
    low, high = (found[name]["f50_per_px"] for name in ("ttf_low", "ttf_high"))
    assert found["ttf_low"]["contrast_hu"] < found["ttf_high"]["contrast_hu"]
    assert low["high"] < 0.97 * high["low"]


def test_without_a_frame_whole_images_are_measured():
    layers = layers_of(Global(), side=48)
    assert layers[0].frame.pixels is None
    found = as_json(measure_output(layers, spacing=None, seed=0).figures())
    assert found["places"] == 1 and found["scans"] == 96
    assert found["observer"][0]["radius_mm"] is None
    assert found["detectability_kept"]["value"] == pytest.approx(1, abs=0.05)


def test_several_images_share_the_places():
    found = figures(Scaled(), images=3)
    assert found["places"] == 18
    assert found["detectability_kept"]["value"] == pytest.approx(1, abs=1e-4)


def test_small_images_have_small_discs():
    found = figures(Scaled(), side=40)
    assert [row["radius_px"] for row in found["observer"]] == [1, 2, 4]
    assert found["ttf_low"]["f50_per_px"] is not None


def test_in_air_there_is_no_place():
    assert measure_output(layers_of(Scaled(), mean=-1000.0, side=48), spacing=None, seed=0) is None


def test_the_seed_decides():
    first, again = (measure_output(layers_of(Scaled(), side=48), spacing=None, seed=3) for _ in range(2))
    assert as_json(first.figures()) == as_json(again.figures())
