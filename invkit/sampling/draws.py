"""The invariances v: standard normal numbers that depend on (seed, image, tile, sample) alone."""

__all__ = ["CHUNK", "chunks", "invariances"]

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from invkit.training.seeds import generator

# Samples are computed in chunks of this size, counted from sample 0. The border of a chunk depends on nothing else, so a
# sample comes out of the same matrix products whatever the batch or the number of processes.
CHUNK = 25


def invariances(seed: int, image: int, tile: int, samples: Sequence[int], d: int) -> Tensor:
    """Return v, shape `(len(samples), d)`; each row is drawn by its own generator.

    Args:
        seed: of the analysis.
        image: index of the image.
        tile: index of the tile within the image.
        samples: indices of the samples wanted.
        d: length of the code.
    """
    rows = [
        torch.randn(d, generator=generator(seed, "v", image, tile, sample), dtype=torch.float32)
        for sample in samples
    ]
    return torch.stack(rows) if rows else torch.empty(0, d, dtype=torch.float32)


def chunks(samples: int) -> Iterator[tuple[range, int]]:
    """Yield the samples to compute, always a whole chunk, and how many of them are wanted."""
    for start in range(0, samples, CHUNK):
        yield range(start, start + CHUNK), min(CHUNK, samples - start)
