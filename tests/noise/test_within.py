"""Noise in a part of an image: A has the part's noise there and nothing beyond, and its transpose is that of a matrix."""

import torch

from invkit.noise.covariance import NoiseCovariance
from invkit.noise.within import NoiseWithin

PLACE, AROUND = (slice(2, 10), slice(3, 12)), (14, 16)


def within():
    level = torch.linspace(5, 9, 9, dtype=torch.float64).expand(8, 9).contiguous()
    return NoiseCovariance(level), NoiseWithin(level, place=PLACE, around=AROUND)


def test_the_part_has_its_noise_and_the_rest_none():
    part, noise = within()
    white = torch.randn(3, 1, 8, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    image = noise.root(white)
    assert image.shape == (3, 1, 14, 16)
    torch.testing.assert_close(image[(..., *PLACE)], part.root(white))
    image[(..., *PLACE)] = 0
    assert not image.any()


def test_the_transpose_and_the_inverse_are_those_of_the_matrix():
    _, noise = within()
    random = torch.Generator().manual_seed(1)
    white = torch.randn(1, 1, 8, 9, generator=random, dtype=torch.float64)
    image = torch.randn(1, 1, 14, 16, generator=random, dtype=torch.float64)
    torch.testing.assert_close(
        (noise.root(white) * image).sum(), (white * noise.root_transposed(image)).sum()
    )
    torch.testing.assert_close(noise.whitened(noise.root(white)), white)
