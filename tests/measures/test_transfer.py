"""Transfer, diversity and gain against layers and samples whose figures are known."""

import math

import numpy as np
import pytest
import torch

from invkit.errors import InputError
from invkit.measures.diversity import diversity
from invkit.measures.gain import gain_ratios
from invkit.measures.transfer import Judged, transfer
from invkit.statistics.intervals import Interval
from invkit.statistics.resampling import image_intervals
from invkit.statistics.tree import as_json


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def means(x):
    """Return the means over blocks of 2 x 2 pixels."""
    return torch.nn.functional.avg_pool2d(x, 2)


def ignored(n, seed, size=8):
    """Return images of mean square 9 whose block means vanish."""
    sign = torch.randint(0, 2, (n, 1, size // 2, size // 2), generator=seeded(seed)) * 2.0 - 1
    pattern = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).repeat(size // 2, size // 2)
    return 3 * torch.nn.functional.interpolate(sign, scale_factor=2) * pattern


# transfer


def test_one_layers_fiber_under_another():
    x = [torch.randn(1, 1, 8, 8, generator=seeded(s)) for s in range(3)]
    layers = {"means": Judged(means, 0.5), "all": Judged(lambda image: (image, 2 * image), 2.0)}
    samples = {
        "means": [image + ignored(5, s) for s, image in enumerate(x)],
        "all": [image.expand(2, 1, 8, 8) for image in x],
    }
    matrix = transfer(layers, x, samples, ["a", "b", "c"], references=torch.zeros(4, 1, 8, 8), batch=2)
    assert matrix.error["means"]["means"].value == pytest.approx(0.0, abs=1e-6)
    assert matrix.error["means"]["all"].value == pytest.approx(3 * math.sqrt(2.5) / 2, rel=1e-5)
    assert matrix.error["all"]["means"] == Interval(0.0, 0.0, 0.0)
    expected = np.sqrt(np.mean([means(image).square().mean().item() for image in x])) / 0.5
    assert matrix.random["means"].value == pytest.approx(expected, rel=1e-5)
    assert as_json(matrix)["error"]["all"]["all"] == {"value": 0.0, "low": 0.0, "high": 0.0}


def test_images_without_a_sample_are_left_out():
    x = [torch.zeros(1, 1, 8, 8)] * 2
    layers = {"all": Judged(lambda image: image, 1.0)}
    matrix = transfer(layers, x, {"all": [torch.empty(0, 1, 8, 8), torch.ones(3, 1, 8, 8)]}, ["a", "b"])
    assert matrix.error["all"]["all"].value == 1.0
    with pytest.raises(InputError, match="no image has a sample of all"):
        transfer(layers, x[:1], {"all": [torch.empty(0, 1, 8, 8)]})


def test_transfer_refuses_what_does_not_match():
    x = [torch.zeros(1, 1, 8, 8)]
    layers = {"all": Judged(lambda image: image, 1.0)}
    with pytest.raises(InputError, match="samples for other"):
        transfer(layers, x, {"other": x})
    with pytest.raises(InputError, match="each of the 1 images"):
        transfer(layers, x, {"all": [*x, *x]})
    with pytest.raises(InputError, match="2 group labels"):
        transfer(layers, x, {"all": x}, ["a", "b"])


# diversity


def test_diversity_of_equal_directions():
    rows = 6 * torch.eye(16).reshape(16, 1, 4, 4)
    found = diversity([rows, rows + 100, 2 * rows], ["a", "b", "c"])
    assert found.rank.value == pytest.approx(15.0)
    squares = np.mean([2 * 36 / 16, 2 * 36 / 16, 2 * 144 / 16])
    assert found.rmse.value == pytest.approx(np.sqrt(squares))
    assert found.samples == 16
    assert diversity([rows, rows], count=5).rank.value == pytest.approx(4.0)


def test_mean_over_pairs_is_that_of_all_pairs():
    samples = torch.randn(6, 1, 4, 4, generator=seeded(1))
    pairs = [(samples[i] - samples[j]).square().mean().item() for i in range(6) for j in range(i)]
    found = diversity([samples])
    assert found.rmse.value == pytest.approx(np.sqrt(np.mean(pairs)), rel=1e-5)
    assert found.rmse.known
    assert not found.rank.known
    assert isinstance(as_json(found)["rank"], float)


def test_diversity_refuses_too_few_samples():
    samples = torch.zeros(3, 1, 4, 4)
    with pytest.raises(InputError, match="at least 2 samples"):
        diversity([samples, samples[:1]])
    with pytest.raises(InputError, match="4 of them"):
        diversity([samples], count=4)
    with pytest.raises(InputError, match="2 group labels"):
        diversity([samples], ["a", "b"])


# gain


def test_gain_of_a_linear_layer():
    x = [torch.randn(1, 1, 8, 8, generator=seeded(s)) for s in range(3)]
    constant = [torch.full((2, 1, 8, 8), 5.0)] * 3
    found = gain_ratios(means, x, constant, [ignored(2, 3) + 1 for _ in x], ["a", "b", "c"], random=200)
    assert found.differences.value == pytest.approx(0.5, rel=1e-5)  # 16 outputs of 64 pixels, each 1
    assert found.noise.value == pytest.approx(0.5 / math.sqrt(10), rel=1e-5)
    assert found.to_noise.value == pytest.approx(math.sqrt(10), rel=1e-5)
    assert found.random.value == pytest.approx(0.25, rel=0.03)  # |J|_F^2 / 64 = 16 / 4 / 64
    assert found.to_random.low <= found.to_random.value <= found.to_random.high
    assert set(as_json(found)) == {"differences", "noise", "random", "to_noise", "to_random"}


def test_what_the_layer_ignores_has_no_gain():
    x = [torch.zeros(1, 1, 8, 8)]
    found = gain_ratios(means, x, [ignored(4, 0)], [torch.randn(4, 1, 8, 8, generator=seeded(0))])
    assert found.to_noise.value == pytest.approx(0.0, abs=1e-6)
    assert found.to_noise.high < 1e-6


def test_gain_refuses_what_cannot_be_compared():
    x = [torch.zeros(1, 1, 8, 8)]
    one = [torch.ones(1, 1, 8, 8)]
    with pytest.raises(InputError, match="1 images, 2 differences"):
        gain_ratios(means, x, [*one, *one], one)
    with pytest.raises(InputError, match="not respond to noise at all"):
        gain_ratios(lambda image: 0 * image, x, one, one)


# intervals over images


def test_images_count_alike_and_patients_are_resampled():
    rows = [[np.array([1.0])], [np.array([3.0, 5.0, 7.0])]]

    def mean(arrays):
        return np.array([arrays[0].mean()])

    (over_images,) = image_intervals(rows, mean, np.asarray)
    assert (over_images.value, over_images.low, over_images.high) == (3.0, 1.0, 5.0)
    (within,) = image_intervals(rows, mean, np.asarray, ["a", "a"])
    assert within.value == 3.0
    assert (within.low, within.high) == (2.0, 4.0)
    (alone,) = image_intervals([[np.array([2.0])]], mean, np.asarray)
    assert alone.value == 2.0
    assert not alone.known
    with pytest.raises(InputError, match="at least one row"):
        image_intervals([[np.array([])]], mean, np.asarray)
