"""Which display window a report opens with."""

import pytest
import torch

from invkit.analysis.presentation import _window
from invkit.data.phantoms.phantom import make_phantom
from invkit.images.window import WINDOWS


@pytest.mark.parametrize(
    ("region", "window"),
    [("thorax", "chest"), ("abdomen", "abdomen"), ("pelvis", "abdomen"), ("head", "abdomen")],
)
@pytest.mark.parametrize("air", [0, 64])
def test_lung_decides_and_the_air_around_does_not(region, window, air):
    for index in range(3):
        image = torch.from_numpy(make_phantom(0, index, size=128, region=region))[None]
        image = torch.nn.functional.pad(image, (air,) * 4, value=-1024.0)
        image += 40 * torch.randn(image.shape, generator=torch.Generator().manual_seed(index))
        assert _window(image) == WINDOWS[window]


def test_images_of_one_kind_of_tissue_have_a_window():
    assert _window(torch.full((1, 16, 16), -800.0)) == WINDOWS["chest"]
    assert _window(torch.zeros(1, 20, 16)) == WINDOWS["abdomen"]
