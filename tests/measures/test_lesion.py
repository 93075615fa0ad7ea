"""The lesion test against layers whose answer to a disc is known."""

import math

import pytest
import torch

from invkit.errors import InputError, UsageError
from invkit.images.disc import disc, disc_places
from invkit.measures.lesion import DOUBLINGS, HALVINGS, DiscSearch, disc_contrasts, lesion_curves
from invkit.statistics.tree import as_json


def rms(image):
    return image.double().square().mean().sqrt().item()


@pytest.mark.parametrize(("centre", "radius"), [((12, 15), 5.0), ((11.3, 15.8), 4.4), ((12.5, 14.5), 7.25)])
def test_a_disc_has_its_area_and_its_centre(centre, radius):
    covered = disc(25, 30, centre, radius)
    area = covered.sum().item()
    assert area == pytest.approx(math.pi * radius**2, rel=5e-3)
    assert (covered.sum(1) @ torch.arange(25.0).double()).item() / area == pytest.approx(centre[0], abs=1e-2)
    assert (covered.sum(0) @ torch.arange(30.0).double()).item() / area == pytest.approx(centre[1], abs=1e-2)
    assert covered.min() >= 0
    assert covered.max() <= 1


def test_a_disc_smaller_than_a_pixel_keeps_its_area():
    covered = disc(5, 5, (2.2, 1.9), 0.3)
    assert covered.sum().item() == pytest.approx(math.pi * 0.09, rel=5e-3)
    assert covered[2, 2].item() == pytest.approx(math.pi * 0.09, rel=5e-3)


def test_a_disc_of_the_whole_image_covers_all():
    torch.testing.assert_close(disc(4, 5, (2, 2), 9.0), torch.ones(4, 5, dtype=torch.float64))
    with pytest.raises(UsageError, match="positive radius"):
        disc(4, 4, (2, 2), 0)


def test_places_are_in_soft_tissue_and_inside():
    image = torch.full((1, 1, 40, 40), -1000.0)
    image[..., 10:34, 6:30] = 50.0
    places = disc_places(image, 3.0, 200, seed=0)
    assert len(places) == 200
    assert places[:, 0].min() >= 11
    assert places[:, 1].max() <= 28
    assert not len(disc_places(torch.full((1, 1, 40, 40), -1000.0), 3.0, 5, seed=0))
    assert not len(disc_places(image[..., :5, :5], 3.0, 5, seed=0))
    margin = disc_places(torch.zeros(1, 1, 40, 40), 3.0, 10_000, seed=0, margin=8)
    assert margin.min() == 11
    assert margin.max() == 28


def disc_contrast(phi, images, centres, radius, threshold, **options):
    """Return where one threshold is crossed."""
    return disc_contrasts(phi, images, centres, radius, {"one": threshold}, **options)["one"]


@pytest.mark.parametrize("threshold", [0.002, 0.3, 5.0])
@pytest.mark.parametrize("largest", [1000.0, -1000.0])
def test_contrast_of_a_linear_layer_is_exact(threshold, largest):
    x = torch.randn(1, 1, 24, 24, generator=torch.Generator().manual_seed(0)) * 30
    centres = [(8.0, 9.0), (15.5, 14.0)]
    found = disc_contrast(
        lambda image: (3 * image, 4 * image), x.double(), centres, 3.0, threshold, largest=largest
    )
    for contrast, centre in zip(found.contrast, centres, strict=True):
        expected = threshold / (rms(disc(24, 24, centre, 3.0)) * math.sqrt((9 + 16) / 2))
        assert contrast.item() == pytest.approx(math.copysign(expected, largest), rel=1e-3)
    assert found.monotone.all()
    assert not found.unseen.any()


def test_a_kink_is_found_by_bisection():
    x = torch.zeros(1, 1, 16, 16, dtype=torch.float64)
    inside = (disc(16, 16, (8, 8), 20.0) == 1).all()
    assert inside
    found = disc_contrast(lambda image: torch.relu(image - 37.0), x, [(8, 8)], 20.0, 2.0)
    assert found.contrast.item() == pytest.approx(39.0, rel=2e-3)


def test_what_is_not_seen_or_comes_back_is_said():
    x = torch.zeros(2, 1, 16, 16)
    blind = disc_contrast(lambda image: 0 * image, x, [(8, 8), (4, 4)], 2.0, 0.1)
    assert blind.unseen.all()
    assert blind.contrast.tolist() == [1000.0, 1000.0]
    back = disc_contrast(lambda image: image * (image < 100), x, [(8, 8), (4, 4)], 2.0, 0.1)
    assert not back.monotone.any()
    assert not back.unseen.any()


def test_threshold_of_each_disc():
    x = torch.zeros(1, 1, 24, 24, dtype=torch.float64)
    found = disc_contrast(lambda image: image, x, [(12, 12), (12, 12)], 3.0, torch.tensor([0.1, 0.2]))
    assert found.contrast[1].item() == pytest.approx(2 * found.contrast[0].item(), rel=1e-3)


def test_thresholds_share_the_contrasts_that_all_of_them_try():
    x = torch.randn(1, 1, 24, 24, generator=torch.Generator().manual_seed(0)) * 30
    thresholds, calls = {"a": 0.3, "b": 5.0}, []

    def phi(image):
        calls.append(len(image))
        return torch.relu(image)

    together = disc_contrasts(phi, x, [(8, 8), (12, 14)], 3.0, thresholds)
    assert len(calls) == 1 + DOUBLINGS + 2 * HALVINGS
    for name, threshold in thresholds.items():
        alone = disc_contrast(torch.relu, x, [(8, 8), (12, 14)], 3.0, threshold)
        assert torch.equal(together[name].contrast, alone.contrast)


def test_curve_falls_with_size_and_has_units():
    images = [torch.randn(1, 1, 32, 32, generator=torch.Generator().manual_seed(s)) * 5 for s in range(4)]
    thresholds = [0.9, 1.0, 1.0, 1.1]
    curve = lesion_curves(
        lambda image: image,
        images,
        {"one": thresholds},
        [2.0, 4.0],
        ["a", "b", "c", "d"],
        search=DiscSearch(places=4),
        spacing=0.7,
    )["one"]
    for radius, contrast in zip((2.0, 4.0), curve.contrast, strict=True):
        expected = 1 / rms(disc(32, 32, (16, 16), radius))
        assert contrast.value == pytest.approx(expected, rel=0.03)
        assert contrast.low == pytest.approx(0.9 * expected, rel=0.03)
        assert contrast.high == pytest.approx(1.1 * expected, rel=0.03)
    assert curve.radius_mm == pytest.approx((1.4, 2.8))
    assert curve.places == 16
    row = as_json(curve)["sizes"][0]
    assert row["unseen"] == 0.0
    assert row["monotone"] == 1.0


def test_curve_of_one_patient_and_of_a_blind_layer():
    image = torch.zeros(1, 1, 32, 32)
    curve = lesion_curves(
        lambda image: 0 * image, [image], {"one": [1.0]}, [2.0], search=DiscSearch(places=3, largest=-300.0)
    )["one"]
    assert curve.unseen == (1.0,)
    assert curve.contrast[0].value == 300.0
    assert as_json(curve)["sizes"][0]["radius_mm"] is None


def test_refuses_what_cannot_be_measured():
    x = torch.zeros(1, 1, 16, 16)
    with pytest.raises(InputError, match="threshold must be positive"):
        disc_contrast(lambda image: image, x, [(8, 8)], 2.0, 0.0)
    with pytest.raises(UsageError, match="must not be 0"):
        disc_contrast(lambda image: image, x, [(8, 8)], 2.0, 1.0, largest=0.0)
    with pytest.raises(InputError, match="3 for 2 discs"):
        disc_contrast(lambda image: image, x.expand(3, 1, 16, 16), [(8, 8), (4, 4)], 2.0, 1.0)
    with pytest.raises(InputError, match="no image has soft tissue"):
        lesion_curves(lambda image: image, [x - 1000], {"one": [1.0]}, [2.0])
    with pytest.raises(InputError, match="needs a threshold"):
        lesion_curves(lambda image: image, [x], {"one": [1.0, 2.0]}, [2.0])
