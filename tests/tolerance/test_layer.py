"""What is found on a part of an image holds in the windows of the whole; the identity has windows as large as the layer."""

import pytest
import torch
from torch import nn

from invkit.fiber.tangent import Tangent
from invkit.images.disc import disc
from invkit.measures.structures.hidden import largest_unseen, unseen_distance
from invkit.noise.covariance import NoiseCovariance
from invkit.split.split import Split
from invkit.tolerance.layer import TolerancedLayer

SIDE, FIELD = 160, 13


@pytest.fixture(scope="module")
def both():
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 3, FIELD, padding=FIELD // 2), nn.ReLU(), nn.Conv2d(3, 1, 1), nn.Identity()
    )
    covariance = NoiseCovariance(torch.full((SIDE, SIDE), 30.0))
    x = 40 + covariance.draws(1, torch.Generator().manual_seed(0))
    found = []
    for name in ("0", "input"):
        split = Split(network, name)
        tangent = Tangent(split.phi_grad)
        found.append(TolerancedLayer.of(split, x, split.denoiser(x), covariance, seed=0, tangent=tangent))
    return found


def test_the_identity_has_the_tolerance_the_frame_and_the_windows_of_the_layer(both):
    layer, identity = both
    beside = identity.beside(layer)
    assert layer.window == FIELD and identity.window == 8
    assert (beside.window, beside.tolerance, beside.frame) == (layer.window, layer.tolerance, layer.frame)


def test_what_hides_on_a_part_hides_in_every_window_of_the_image(both):
    """Windows begin every 6 pixels, parts every 32: those of a part are not those of the image."""
    layer, _ = both
    centres = torch.tensor([[41, 97], [100, 60], [83, 83], [120, 110]])
    crops = layer.crops(centres)
    assert any(corner % (FIELD // 2) for corner in crops.corners.flatten().tolist())
    size = crops.images.shape[-1]
    shapes = torch.stack([disc(size, size, tuple(at), 2.0)[None] for at in crops.centres.tolist()]).float()
    c = largest_unseen(layer, crops, shapes)
    distance = unseen_distance(layer, crops, shapes)
    assert bool((distance(c) <= layer.tolerance).all())
    assert bool((distance(1.05 * c) > layer.tolerance).all())
    # By hand, on the whole image.
    for one, (row, column) in zip(c.tolist(), centres.tolist(), strict=True):
        changed = layer.x + one * disc(SIDE, SIDE, (row, column), 2.0)
        moved = layer.windows.distance(layer.split.phi(changed.to(layer.x)), layer.split.phi(layer.x))
        assert (
            float(moved) == pytest.approx(layer.tolerance, rel=0.05)
            and float(moved) <= layer.tolerance * 1.001
        )
