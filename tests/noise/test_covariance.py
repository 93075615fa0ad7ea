"""C as an operator against C as a matrix, and against noise that is simulated elsewhere."""

import pytest
import torch

from invkit.data.dose.texture import noise_texture
from invkit.errors import InputError
from invkit.images.spectrum import power_spectrum
from invkit.noise.covariance import NoiseCovariance


def matrix(apply, height, width):
    """Return a linear map of images as a matrix, float64."""
    unit = torch.eye(height * width, dtype=torch.float64).view(-1, 1, height, width)
    return apply(unit).flatten(1).T


def uneven(height, width):
    rows = torch.linspace(10, 40, height, dtype=torch.float64)
    return rows[:, None].expand(height, width).contiguous()


@pytest.mark.parametrize("size", [(8, 8), (7, 9)])
def test_root_and_inverse_are_those_of_the_matrix(size):
    noise = NoiseCovariance(uneven(*size))
    root = matrix(noise.root, *size)
    assert torch.allclose(root.T, matrix(noise.root_transposed, *size))
    assert torch.allclose(root @ root.T, matrix(noise.apply, *size))
    whitened = matrix(noise.whitened, *size)
    assert torch.allclose(whitened.T @ whitened, torch.linalg.inv(root @ root.T), rtol=1e-6)


@pytest.mark.parametrize("size", [(16, 16), (15, 17)])
def test_the_diagonal_is_the_variance(size):
    noise = NoiseCovariance(uneven(*size))
    diagonal = matrix(noise.apply, *size).diag().view(size)
    assert torch.allclose(diagonal.sqrt(), uneven(*size))


def test_draws_have_that_covariance():
    noise = NoiseCovariance(uneven(6, 6).float())
    draws = noise.draws(40_000, torch.Generator().manual_seed(0)).flatten(1).double()
    expected = matrix(NoiseCovariance(uneven(6, 6)).apply, 6, 6)
    error = (draws.T @ draws / len(draws) - expected).norm() / expected.norm()
    # The relative error of a sample covariance of n draws in d dimensions is about sqrt(d / n).
    assert error < 2 * (36 / 40_000) ** 0.5


def test_its_spectrum_is_that_of_the_simulated_dose():
    noise = NoiseCovariance(torch.full((64, 64), 30.0))
    ours = power_spectrum(noise.draws(200, torch.Generator().manual_seed(0)))
    texture = noise_texture(200, 64, 64, generator=torch.Generator().manual_seed(1))
    theirs = power_spectrum(30 * texture)
    for one, other in zip(ours.power, theirs.power, strict=True):
        assert one == pytest.approx(other, rel=0.1, abs=2.0)


def test_the_floor_is_a_part_of_the_mean_power():
    loose, tight = (
        NoiseCovariance(torch.full((32, 32), 1.0, dtype=torch.float64), floor=floor) for floor in (1e-2, 1e-4)
    )
    assert loose.gain.min().square() == pytest.approx(1e-2, rel=0.05)
    assert tight.gain.min() < loose.gain.min() / 2


def test_twice_the_covariance_is_root_two_of_the_noise():
    noise = NoiseCovariance(uneven(8, 8))
    white = noise.white(1, torch.Generator().manual_seed(0))
    assert torch.allclose(noise.scaled(2).root(white), 2**0.5 * noise.root(white))


def test_a_kernel_blurs_edges_and_keeps_means():
    noise = NoiseCovariance(torch.full((32, 32), 1.0, dtype=torch.float64))
    step = torch.zeros(1, 1, 32, 32, dtype=torch.float64)
    step[..., 8:24, 8:24] = 1.0
    blurred = noise.blurred(step)
    assert blurred.mean() == pytest.approx(float(step.mean()))
    assert 0.3 < blurred[0, 0, 7, 16] + (1 - blurred[0, 0, 8, 16]) < 0.9
    assert noise.transfer[0, 0] == 1
    assert (noise.transfer.diff(dim=1)[0] <= 1e-12).all()


@pytest.mark.parametrize("deviation", [torch.zeros(8, 8), torch.ones(8), -torch.ones(8, 8)])
def test_a_deviation_must_be_one(deviation):
    with pytest.raises(InputError, match="positive deviation"):
        NoiseCovariance(deviation)
