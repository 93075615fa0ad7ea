"""Draws that need no training: the denoiser's own output, with noise like the noise that it took away."""

__all__ = ["training_free"]

from collections.abc import Sequence

from torch import Tensor

from invkit.sampling.completion import spectral_noise


def training_free(x: Tensor, f_x: Tensor, *, seed: int, image: int, indices: Sequence[int]) -> Tensor:
    """Return f(x) plus Gaussian noise with the radial power spectrum of x - f(x), `(n, 1, H, W)`, HU.

    All of them have the anatomy that the denoiser keeps, and noise as strong as what it removes. They are a
    reference of a model's samples, which should lie closer to the fiber.

    Args:
        x: the image under test, `(1, 1, H, W)`, HU.
        f_x: f(x), `(1, 1, H, W)`, HU.
        seed: of the analysis.
        image: index of the image under test.
        indices: index of each draw; its noise depends on seed, image and this index alone.
    """
    return f_x + spectral_noise(x - f_x, stream="training-free", seed=seed, image=image, indices=indices)
