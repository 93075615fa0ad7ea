"""The condition of a layer's derivative against dense singular values in float64."""

import pytest
import torch
from linear_layer import SIZE, LinearLayer
from scaled_network import Scaled
from torch import nn

from invkit.fiber.tangent import Tangent
from invkit.measures.structures.condition import RESOLVED, condition_of, extreme_singular_values
from invkit.noise.covariance import NoiseCovariance
from invkit.split.split import Split
from invkit.tolerance.layer import TolerancedLayer

LEVEL, SIDE = 20.0, 48


def layer_of(network, layer, side=SIDE):
    covariance = NoiseCovariance(torch.full((side, side), LEVEL))
    x = 40 + covariance.draws(1, torch.Generator().manual_seed(0))
    split = Split(network, layer)
    return TolerancedLayer.of(
        split, x, split.denoiser(x), covariance, seed=0, tangent=Tangent(split.phi_grad)
    )


def filtered(kernel):
    """Return a network that filters, and then does nothing."""
    size = kernel.shape[-1]
    network = nn.Sequential(nn.Conv2d(1, 1, size, padding=size // 2), nn.Conv2d(1, 1, 1))
    with torch.no_grad():
        network[0].weight.copy_(kernel)
        network[0].bias.zero_()
        network[1].weight.fill_(1.0)
        network[1].bias.zero_()
    return network


def test_singular_values_are_those_of_the_matrix():
    linear = LinearLayer(channels=6)
    matrix = linear.jacobian / linear.s[:, None]
    exact = torch.linalg.svdvals(matrix)

    def found(products, within=1e-6):
        return extreme_singular_values(
            lambda v: (matrix @ v,),
            lambda q: matrix.T @ q[0],
            SIZE * SIZE,
            products=products,
            within=within,
        )

    largest, smallest, converged = found(SIZE * SIZE)
    assert converged
    assert largest == pytest.approx(float(exact[0]), rel=1e-6)
    assert smallest == pytest.approx(float(exact[-1]), rel=1e-4)

    largest, smallest, converged = found(8)
    assert not converged
    assert largest <= float(exact[0]) * (1 + 1e-9) and smallest >= float(exact[-1]) * (1 - 1e-9)


def test_a_matrix_with_a_null_space_has_no_smallest_value():
    matrix = torch.randn(10, 30, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    largest, smallest, converged = extreme_singular_values(
        lambda v: (matrix @ v,), lambda q: matrix.T @ q[0], 30, products=30, within=0.1
    )
    assert converged and smallest == 0
    assert largest == pytest.approx(float(torch.linalg.matrix_norm(matrix, 2)), rel=1e-6)


def test_a_filter_has_the_condition_of_its_dense_matrix():
    kernel = torch.tensor([[0.0, 0.1, 0.0], [0.1, 0.6, 0.1], [0.0, 0.1, 0.0]])
    layer = layer_of(filtered(kernel), "0")
    frame = layer.frame.pixels
    inner = SIDE - 2 * frame
    units = torch.zeros(inner * inner, 1, SIDE, SIDE)
    units[..., frame : SIDE - frame, frame : SIDE - frame] = torch.eye(inner * inner).view(
        -1, 1, inner, inner
    )
    columns = nn.functional.conv2d(units, kernel[None, None], padding=1) / layer.windows.unit.s[0]
    exact = torch.linalg.eigvalsh(columns.flatten(1).double() @ columns.flatten(1).double().T)
    found = condition_of(layer)
    assert frame == 1 and not found.at_least
    assert found.value == pytest.approx(float((exact[-1] / exact[0]).sqrt()), rel=0.02)


def test_scales_of_channels_do_not_count():
    """Two channels, one a thousand times the other: in units of a repeat scan both are the image."""
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.Conv2d(2, 1, 1))
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([1.0, 1000.0]).view(2, 1, 1, 1))
        network[1].weight.copy_(torch.tensor([1.0, 0.0]).view(1, 2, 1, 1))
    here, image = condition_of(layer_of(network, "0")), condition_of(layer_of(Scaled(), "input"))
    assert here.value == pytest.approx(image.value, rel=0.02)
    assert image.value < 1.4  # 1, but for the error of S


def test_a_layer_with_fewer_numbers_than_pixels_is_singular():
    network = nn.Sequential(nn.AvgPool2d(2), nn.Upsample(scale_factor=2))
    found = condition_of(layer_of(network, "0"))
    assert found.figures() == {"value": RESOLVED, "at_least": True}


def test_a_layer_that_takes_out_a_frequency_is_nearly_singular():
    """The mean of two neighbours: on n pixels the smallest singular value is 2 sin(pi / (2 (n + 1))) / 2 of the largest's limit."""
    kernel = torch.tensor([[0.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.0, 0.0, 0.0]])
    found = condition_of(layer_of(filtered(kernel), "0"))
    inner = SIDE - 2
    angle = torch.pi / (2 * (inner + 1))
    exact = float(torch.cos(torch.tensor(angle)) / torch.sin(torch.tensor(angle)))
    assert 10 < found.value <= 1.3 * exact


def test_a_small_interior_has_none():
    assert condition_of(layer_of(filtered(torch.full((9, 9), 1 / 81.0)), "0", side=36)) is None
