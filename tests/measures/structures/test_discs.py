"""Discs of a layer whose figures are known as matrices, and the same disc in images of two sizes."""

import pytest
import torch
from linear_layer import SIZE, LinearLayer
from torch import nn

from invkit.fiber.tangent import Tangent
from invkit.images.disc import disc
from invkit.measures.structures.discs import measure_discs
from invkit.noise.covariance import NoiseCovariance
from invkit.posterior.draws import Posterior
from invkit.split.split import Split
from invkit.tolerance.frame import Frame
from invkit.tolerance.layer import TolerancedLayer
from invkit.tolerance.marks import Marks
from invkit.tolerance.unit import Unit
from invkit.tolerance.windows import Windows

TOLERANCE = 0.5


def linear_layer():
    """Return a layer whose frame leaves room for a disc of radius 1 at four places, and its matrices."""
    linear = LinearLayer()
    marks, frame = Marks({"given": TOLERANCE}, 1.0, "given"), Frame(4, (SIZE, SIZE))
    f_x = linear.split.denoiser(linear.x)
    layer = TolerancedLayer(
        linear.split, linear.x, f_x, linear.covariance, linear.windows, marks, frame, linear.tangent
    )
    return layer, linear


def test_detectability_is_that_of_the_matrices_at_the_sigma_of_the_draws():
    layer, linear = linear_layer()
    (row,) = measure_discs([layer], [layer], spacing=None, seed=0)
    assert (row.radius, row.places) == (1.0, 4)
    places = [(i, j) for i in (5, 6) for j in (5, 6)]
    shapes = torch.stack([disc(SIZE, SIZE, place, 1.0)[None] for place in places])
    d = linear.covariance.blurred(shapes).flatten(1)
    sigma = Posterior(
        layer.split, layer.x, layer.x, layer.windows, layer.covariance, TOLERANCE, layer.tangent
    ).sigma
    noise = linear.jacobian @ linear.matrix @ linear.jacobian.T + torch.diag((sigma * linear.s) ** 2)
    z = d @ linear.jacobian.T
    in_layer = (z @ torch.linalg.inv(noise) * z).sum(1).sqrt()
    in_image = (d @ torch.linalg.inv(linear.matrix) * d).sum(1).sqrt()
    expected = float((1 - in_layer / in_image).mean())
    assert row.values["detectability_lost"].value == pytest.approx(expected, rel=2e-3)


def test_a_discs_detectability_does_not_depend_on_the_size_of_the_image_around_it():
    network = nn.Sequential(nn.AvgPool2d(2), nn.Upsample(scale_factor=2))
    large = 40 + NoiseCovariance(torch.full((160, 160), 20.0)).draws(1, torch.Generator().manual_seed(0))
    rows = []
    for image, frame in ((large, Frame(78, (160, 160))), (large[..., 32:128, 32:128], Frame(46, (96, 96)))):
        split = Split(network, "0")
        z = split.phi(image)
        layer = TolerancedLayer(
            split,
            image,
            split.denoiser(image),
            NoiseCovariance(torch.full(image.shape[-2:], 20.0)),
            Windows((8,), Unit((torch.full_like(z, 20.0),), (0.0,), 0.0)),
            Marks({"given": 0.3}, 1.0, "given"),
            frame,
            Tangent(split.phi_grad),
        )
        rows += measure_discs([layer], [layer], spacing=None, seed=0)
    small, same = rows
    for name in ("contrast_kept", "detectability_lost", "hidden_hu", "hidden_companion_hu"):
        assert same.values[name].value == pytest.approx(small.values[name].value, rel=1e-3)
