"""The image under test: which it is, at which dose, and nothing of where it came from."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

from invkit.analysis.specs import ImageSpec
from invkit.analysis.subject import choose_subject
from invkit.artifacts import state_fingerprint
from invkit.data.dose.image import estimate_noise, simulate_low_dose
from invkit.data.images import default_image
from invkit.errors import ImageError, UsageError
from invkit.training.seeds import generator


def tissue(count: int = 1, height: int = 64, width: int = 80, noise: float = 15.0) -> torch.Tensor:
    random = torch.Generator().manual_seed(0)
    return 40 + noise * torch.randn(count, 1, height, width, generator=random)


def test_the_default_is_pydicoms_slice_at_a_quarter_of_its_dose():
    subject = choose_subject(None, seed=0)
    image = default_image()
    assert torch.equal(subject.y, image)
    assert subject.x.shape == (1, 1, 128, 128)
    assert subject.x.dtype == torch.float32
    added = estimate_noise(image) * math.sqrt(1 / 0.25 - 1)
    assert subject.noise == (pytest.approx(added),)
    assert (subject.x - subject.y).std().item() == pytest.approx(added, rel=0.1)
    assert "128 x 128" in subject.description
    assert "pydicom" in subject.description
    assert "reduced to 0.25 by simulation" in subject.description
    assert f"{added:.0f} HU" in subject.description


def test_the_size_of_pixels_is_what_the_file_states_or_the_user():
    assert choose_subject(None, seed=0).spacing == pytest.approx(0.661468)
    assert choose_subject(None, seed=0, spacing=0.5, dose=1).spacing == 0.5
    assert choose_subject(tissue(), seed=0).spacing is None
    for wrong in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(UsageError, match="a length in mm"):
            ImageSpec(tissue(), spacing=wrong)


def test_the_noise_depends_on_the_seed_alone():
    first, second = choose_subject(None, seed=1), choose_subject(None, seed=1)
    torch.manual_seed(3)
    assert torch.equal(first.x, second.x)
    assert first.sha256 == second.sha256 == choose_subject(None, seed=1).sha256
    other = choose_subject(None, seed=2)
    assert not torch.equal(first.x, other.x)
    assert first.sha256 != other.sha256


def test_the_dose_of_the_default_can_be_chosen():
    assert choose_subject(None, seed=0, dose=0.1).noise[0] == pytest.approx(
        estimate_noise(default_image()) * 3
    )
    assert choose_subject(None, seed=0, default_dose=0.5).noise[0] == pytest.approx(
        estimate_noise(default_image())
    )
    full = choose_subject(None, seed=0, dose=1)
    assert torch.equal(full.x, default_image())
    assert full.y is None
    assert "taken as it is" in full.description


@pytest.mark.parametrize("shape", [(64, 80), (1, 64, 80), (1, 1, 64, 80)])
def test_an_image_of_the_users_is_taken_as_it_is(shape):
    given = tissue().reshape(shape)
    for data in (given, given.numpy(), given.double().numpy()):
        subject = choose_subject(data, seed=0)
        assert torch.equal(subject.x, tissue())
        assert subject.y is None
        assert subject.noise == (0.0,)
        assert subject.description == "an image of 64 x 80 pixels given as an array, taken as it is"
        assert subject.sha256 == state_fingerprint({"x": tissue()})


def test_the_dose_of_the_users_image_is_reduced_on_demand_each_by_its_own_noise():
    y = torch.cat([tissue(noise=10.0), tissue(noise=30.0)])
    subject = choose_subject(y, seed=5, dose=0.25)
    levels = [estimate_noise(one) for one in y[:, 0]]
    assert levels[1] > 2.5 * levels[0]
    assert subject.noise == pytest.approx([level * math.sqrt(3) for level in levels])
    expected = simulate_low_dose(y, noise=torch.tensor(levels), dose=0.25, generator=generator(5, "dose"))
    torch.testing.assert_close(subject.x, expected)
    assert torch.equal(subject.y, y)
    for x, full, added in zip(subject.x, y, subject.noise, strict=True):
        assert (x - full).std().item() == pytest.approx(added, rel=0.15)
    assert subject.description.startswith("2 images of 64 x 80 pixels given as an array, dose reduced")


def test_simulated_low_dose_stays_in_the_range_of_the_training_pairs():
    air = torch.full((1, 1, 64, 64), -1024.0)
    air[..., 16:48, 16:48] = tissue(1, 32, 32)
    air[..., 30, 30] = 3071.0
    subject = choose_subject(air, seed=0, dose=0.1)
    assert subject.x.min().item() == -1024
    assert subject.x.max().item() <= 3071
    assert torch.equal(subject.y, air)


def test_the_callers_array_is_left_alone():
    given = tissue()
    for dose in (None, 0.5):
        subject = choose_subject(given, seed=0, dose=dose)
        subject.x.zero_()
        assert torch.equal(given, tissue())


def test_a_file_is_described_without_its_name(tmp_path):
    path = tmp_path / "MUELLER^HANS.npy"
    np.save(path, tissue()[:, 0].numpy())
    for data in (path, str(path)):
        subject = choose_subject(data, seed=0)
        assert subject.description == "an image of 64 x 80 pixels read from a file, taken as it is"
        assert torch.equal(subject.x, tissue())
    reduced = choose_subject(path, seed=0, dose=0.5).description
    assert "MUELLER" not in reduced
    assert str(tmp_path) not in reduced


def test_a_raster_needs_its_range(tmp_path):
    path = tmp_path / "slice.png"
    grey = np.arange(64 * 64, dtype=np.uint8).reshape(64, 64)
    Image.fromarray(grey).save(path)
    subject = choose_subject(path, seed=0, hu_range=(-1000.0, 1550.0))
    assert subject.x[0, 0, 0, :3].tolist() == pytest.approx([-1000.0, -990.0, -980.0])
    with pytest.raises(ImageError, match="hu-range"):
        choose_subject(path, seed=0)


def test_a_range_is_not_silently_ignored():
    for data in (None, tissue(), tissue().numpy()):
        with pytest.raises(ImageError, match="already in HU"):
            ImageSpec(data, hu_range=(-1024.0, 3071.0))


@pytest.mark.parametrize("size", [(15, 64), (64, 15), (1, 1)])
def test_an_image_below_16_pixels_is_refused(size):
    with pytest.raises(ImageError, match=f"{size[0]} x {size[1]} pixels is too small"):
        choose_subject(torch.zeros(size), seed=0)
    assert choose_subject(torch.zeros(16, 16), seed=0).x.shape == (1, 1, 16, 16)


@pytest.mark.parametrize("dose", [0.0, -0.5, 1.5, math.nan])
@pytest.mark.parametrize("data", [None, "array"])
def test_an_impossible_dose_is_refused(dose, data):
    with pytest.raises(UsageError, match="dose"):
        choose_subject(tissue() if data else None, seed=0, dose=dose)


@pytest.mark.parametrize(
    "data",
    [
        np.zeros((2, 2, 64, 64), dtype=np.float32),
        np.full((64, 64), np.nan),
        np.array([["a"] * 64] * 64),
        np.zeros((0, 64, 64)),
        [[0.0] * 64] * 64,
        7,
    ],
    ids=["channels", "nan", "text", "empty", "list", "number"],
)
def test_what_is_no_image_is_one_typed_error(data):
    with pytest.raises(ImageError):
        choose_subject(data, seed=0)


def test_a_missing_file_is_one_typed_error(tmp_path):
    with pytest.raises(ImageError):
        choose_subject(tmp_path / "missing.dcm", seed=0)
