"""How weak a marked structure can be, for layers of which that is known."""

import pytest
import torch
from linear_layer import LinearLayer
from noisy_layer import Edges, at_noise
from scaled_network import Scaled
from torch import nn

from invkit.errors import InputError
from invkit.images.box import Box
from invkit.images.disc import disc
from invkit.images.marked import above_surroundings, contrast_of
from invkit.measures.structures.hidden import DEVIATIONS
from invkit.measures.structures.marked import Marking, measure_marked

SIDE, BOX = 64, Box(20, 22, 24, 20)
STRUCTURE = 60 * disc(SIDE, SIDE, (31.5, 31.5), 5.0)[None, None].float()


def marked(network, name="inner", box=BOX):
    layer, identity = (at_noise(network, which, SIDE, STRUCTURE) for which in (name, "input"))
    return layer, measure_marked(Marking(box, layer, identity), seed=0)


def largest(layer, change):
    """Return the largest root mean square of a change of the image itself over 8 x 8 windows, in units of S."""
    power = (change / layer.windows.unit.s[0]).square()
    return float(nn.functional.avg_pool2d(power, 8, stride=4).max().sqrt())


def test_of_the_image_itself_the_share_is_the_tolerance_over_the_structure():
    layer, found = marked(Scaled(), "input")
    above = above_surroundings(layer.x, BOX)
    assert found.contrast == pytest.approx(float(contrast_of(above, BOX)))
    assert found.share.alone == pytest.approx(layer.tolerance / largest(layer, above), rel=0.02)
    assert found.share == found.image
    # Noise of two deviations alone can stand in for so much of it.
    white = layer.covariance.whitened(above).double().norm()
    assert found.share.companion > DEVIATIONS / float(white) > found.share.alone


def test_the_images_are_x_without_that_share_and_certified():
    layer, found = marked(Scaled(), "input")
    alone, companion = found.images
    above = above_surroundings(layer.x, BOX)
    assert torch.allclose(alone.changed, layer.x - found.share.alone * above, atol=1e-3)
    for one, share in ((alone, found.share.alone), (companion, found.share.companion)):
        z = layer.split.phi(layer.x)
        assert (
            float(layer.windows.distance(layer.split.phi(one.changed), z)) == one.distance <= layer.tolerance
        )
        assert torch.allclose(one.structure, -share * above, atol=1e-3)
        assert torch.equal(one.f_changed, layer.split.denoiser(one.changed))
    left = float(contrast_of(above_surroundings(alone.changed, BOX), BOX))
    assert left == pytest.approx((1 - found.share.alone) * found.contrast, rel=0.01)
    noise = companion.changed - layer.x - companion.structure
    assert float(layer.covariance.whitened(noise).norm()) <= 1.01 * DEVIATIONS


def test_its_contrast_has_the_deviation_of_dose_noise():
    layer, found = marked(Scaled(), "input")
    scans = layer.covariance.draws(500, torch.Generator().manual_seed(5))
    expected = float(contrast_of(above_surroundings(scans, BOX), BOX).std())
    assert found.noise == pytest.approx(expected, rel=0.3)
    assert found.contrast > 3 * found.noise


def test_a_layer_that_sees_edges_alone_leaves_less_of_it_than_the_image_does():
    _, found = marked(Edges())
    assert found.share.alone > 1.5 * found.image.alone
    assert found.share.companion > found.image.companion


def test_of_a_layer_that_sees_nothing_all_of_it_may_be_missing():
    blind = LinearLayer(size=SIDE)
    with torch.no_grad():
        blind.network[0].weight.zero_()
    layer = blind.toleranced(0.1)
    found = measure_marked(Marking(BOX, layer, layer), seed=0)
    assert found.share.alone == found.share.companion == 1
    assert found.figures()["weakest_hu"] == 0


@pytest.mark.parametrize("box", [Box(1, 20, 20, 20), Box(20, 44, 20, 20)])
def test_what_padding_reaches_is_refused_with_what_to_do(box):
    network = nn.Sequential(nn.Conv2d(1, 1, 9, padding=4), nn.Conv2d(1, 1, 1))
    with torch.no_grad():
        network[0].weight.fill_(1 / 81)
        network[1].weight.fill_(1.0)
    with pytest.raises(InputError, match=r"less than 4 pixels from the border .* Mark one further inside"):
        marked(network, "0", box)
