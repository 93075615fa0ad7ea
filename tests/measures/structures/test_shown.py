"""Images with what hides: the disc that hides most, certified on all of the image."""

import pytest
import torch
from noisy_layer import at_noise
from torch import nn

from invkit.measures.structures.inserted import CONTRAST, measure_inserted
from invkit.measures.structures.shown import changed_image, hidden_images

SIDE = 128


@pytest.fixture(scope="module")
def layers():
    network = nn.Sequential(nn.AvgPool2d(2), nn.Upsample(scale_factor=2))
    return [[at_noise(network, name, SIDE)] for name in ("0", "input")]


@pytest.fixture(scope="module")
def rows(layers):
    return measure_inserted(*layers, spacing=None, seed=0)


def distance(layer, image):
    return float(layer.windows.distance(layer.split.phi(image), layer.split.phi(layer.x)))


def test_the_disc_that_hides_most_is_shown_alone_and_with_noise(layers, rows):
    (layer,) = layers[0]
    alone, companion = hidden_images(*layers, rows, contrast=CONTRAST, seed=0)
    most = max(rows, key=lambda row: row.values["hidden_hu"].value / row.values["identity_hidden_hu"].value)
    assert alone.text.startswith("a disc of ") and f"radius {most.shape.size:g} px" in alone.text
    for one, name in ((alone, "hidden_hu"), (companion, "hidden_companion_hu")):
        assert one.name == name.removesuffix("_hu")
        assert one.x.shape == one.changed.shape == (1, 1, SIDE, SIDE)
        assert distance(layer, one.changed) == one.distance <= layer.tolerance
        assert torch.equal(one.f_changed, layer.split.denoiser(one.changed))
        assert 0.8 * most.values[name].low <= one.contrast <= 1.2 * most.values[name].high
    assert torch.allclose(alone.changed - alone.x, alone.structure, atol=1e-4)
    assert companion.contrast > alone.contrast
    # With noise the difference is much less than the disc in it.
    assert (companion.changed - companion.x).norm() < 0.7 * companion.structure.norm()


def test_without_discs_there_is_nothing_to_show(layers):
    assert hidden_images(*layers, (), contrast=CONTRAST, seed=0) == ()


def test_what_the_whole_image_moves_further_is_made_less(layers):
    (layer,) = layers[0]
    change = torch.zeros(1, 1, 32, 32)
    change[..., 8:16, 8:16] = 100.0
    found = changed_image(layer, "hidden", "{} HU", (64, 32), change, change, 100.0)
    assert 0 < found.scale < 1 and found.distance <= layer.tolerance
    assert found.contrast == pytest.approx(100 * found.scale)
    assert float((found.changed - found.x)[0, 0, 75, 43]) == pytest.approx(100 * found.scale, rel=1e-4)
    assert not bool((found.changed - found.x)[..., :64, :].any())
    assert set(found.images()) == {"x", "changed", "structure", "f_x", "f_changed"}
