"""Which image sizes a network takes: found by trying, from the smallest multiple upwards."""

__all__ = ["probe_images", "working_multiple"]

from dataclasses import replace

import torch
from torch import Tensor

from invkit.denoisers.loaded import LoadedDenoiser
from invkit.errors import DenoiserError, ResourceError

# Strides are powers of two; windows of attention have 7 or 8 pixels a side, on grids that may be strided themselves.
MULTIPLES = (1, 2, 4, 7, 8, 14, 16, 28, 32, 56, 64)
SQUARES = (96, 128, 224, 256, 384, 512)
SMALLEST = 36
SQUARE = 16  # the least size of an image


def probe_images(sides: tuple[int, int], count: int = 3) -> Tensor:
    """Return images of noise around water and tissue to test on, shape `(count, 1, *sides)`, HU, always the same."""
    draws = torch.randn((count, 1, *sides), generator=torch.Generator().manual_seed(0))
    return 40.0 + 300.0 * draws.clamp(-3.0, 3.0)


def working_multiple(loaded: LoadedDenoiser) -> tuple[int, tuple[int, int]]:
    """Return the size multiple of a network, and the sides of a small image that it took.

    A declared multiple is tested. One that is not is the first that the network takes, and after those the side of the square
    images that are all it takes.

    Raises:
        DenoiserError: the network takes no size that was tried; the message is that of the first.
    """
    if loaded.spec.size_multiple is not None:
        return loaded.size_multiple, _declared(loaded)
    first: DenoiserError | None = None
    for multiple, sides in [(m, _sides(m)) for m in MULTIPLES] + [(side, (side, side)) for side in SQUARES]:
        try:
            _run(_padding(loaded, multiple), sides)
        except ResourceError:
            raise
        except DenoiserError as error:
            first = first or error
            if error.__cause__ is None and multiple > MULTIPLES[-1]:
                break  # it ran and gave something else than an image, which no size will mend
        else:
            return multiple, sides
    assert first is not None
    raise first


def _declared(loaded: LoadedDenoiser) -> tuple[int, int]:
    multiple = loaded.size_multiple
    sides = _sides(multiple)
    try:
        _run(loaded, sides)
    except DenoiserError:
        if multiple < SQUARE:
            raise
        try:
            _run(loaded, (multiple, multiple))
        except DenoiserError:
            pass
        else:
            return multiple, multiple  # it takes images of this one size
        raise
    return sides


def _sides(multiple: int) -> tuple[int, int]:
    """Return two unequal sides that are odd multiples, so that they are no multiples of anything larger that is tried."""
    odd = max(1, -(-SMALLEST // multiple)) | 1
    return multiple * odd, multiple * (odd + 2)


def _padding(loaded: LoadedDenoiser, multiple: int) -> LoadedDenoiser:
    if multiple == loaded.size_multiple:
        return loaded
    spec = replace(loaded.spec, size_multiple=multiple)
    return LoadedDenoiser(
        spec, loaded.network, weights_tag=loaded.weights_tag, preprocessing=loaded.preprocessing
    )


def _run(loaded: LoadedDenoiser, sides: tuple[int, int]) -> None:
    with torch.no_grad():
        loaded.run(loaded.prepare(probe_images(sides, 1)))
