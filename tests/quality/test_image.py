import math

import numpy as np
import pytest
import torch
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_windowing
from skimage.metrics import structural_similarity

from invkit.errors import InputError
from invkit.images.window import WINDOWS, Window, apply_window
from invkit.quality.image import psnr, rmse, ssim


def pair(side=32):
    generator = torch.Generator().manual_seed(0)
    target = torch.rand(3, 1, side, side, generator=generator) * 600 - 250
    return target + torch.randn(target.shape, generator=generator) * 25, target


def test_rmse_in_hu():
    prediction, target = pair()
    expected = np.sqrt(((prediction - target).numpy().astype(np.float64) ** 2).mean((1, 2, 3)))
    np.testing.assert_allclose(rmse(prediction, target).numpy(), expected, rtol=1e-12)
    air = torch.full((1, 1, 4, 4), -3000.0)
    assert rmse(air, torch.full_like(air, -1024.0), clip=True).item() == 0.0


@pytest.mark.parametrize("name", ["abdomen", "chest", "neuro"])
def test_ssim_and_psnr_are_scikit_image_on_the_window(name):
    prediction, target = pair()
    window = WINDOWS[name]
    low = window.center - 0.5 - (window.width - 1) / 2
    a, b = (np.clip((t.double().numpy() - low) / (window.width - 1), 0, 1) for t in (prediction, target))
    expected = [structural_similarity(t[0], p[0], data_range=1.0) for p, t in zip(a, b, strict=True)]
    np.testing.assert_allclose(ssim(prediction, target, window).numpy(), expected, rtol=1e-9)
    expected = -10 * np.log10(((a - b) ** 2).mean((1, 2, 3)))
    np.testing.assert_allclose(psnr(prediction, target, window).numpy(), expected, rtol=1e-9)


def test_window_is_the_one_of_the_dicom_standard():
    values = np.linspace(-400, 500, 181).round().astype(np.int16)
    dataset = Dataset()
    dataset.WindowCenter, dataset.WindowWidth = 50, 400
    dataset.BitsStored, dataset.PixelRepresentation, dataset.PhotometricInterpretation = 16, 1, "MONOCHROME2"
    shown = apply_windowing(values, dataset)
    expected = (shown - shown.min()) / (shown.max() - shown.min())
    np.testing.assert_allclose(
        apply_window(torch.from_numpy(values).double(), Window(50, 400)).numpy(), expected, atol=1e-9
    )


def test_equal_images_are_perfect():
    _, target = pair()
    assert ssim(target, target, WINDOWS["abdomen"]).tolist() == pytest.approx([1.0] * 3)
    assert psnr(target, target, WINDOWS["abdomen"]).tolist() == [math.inf] * 3


def test_refuses_other_shapes_small_images_and_a_closed_window():
    with pytest.raises(InputError):
        rmse(torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 8, 9))
    with pytest.raises(InputError, match="7 x 7"):
        ssim(torch.zeros(1, 1, 6, 9), torch.zeros(1, 1, 6, 9), WINDOWS["neuro"])
    with pytest.raises(InputError, match="width"):
        apply_window(torch.zeros(2), Window(0, 1))
