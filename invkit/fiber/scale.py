"""The scales of an activation.

Distances between activations are root mean squares over all their elements. Divided by `activation_scale`
they have a plain meaning: 0 is the same activation, about 1 that of another image drawn at random.
"""

__all__ = [
    "activation_scale",
    "dose_noise_distance",
]

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from invkit.errors import InputError
from invkit.fiber.distance import activation_distance
from invkit.statistics.moments import StreamingMoments

Activation = Tensor | Sequence[Tensor]
Phi = Callable[[Tensor], Any]


def _parts(z: Activation) -> tuple[Tensor, ...]:
    """Return an activation as a tuple of tensors; several layers may be cut at once."""
    return (z,) if isinstance(z, Tensor) else tuple(z)


def _chain(n: int, pairs: int, seed: int) -> list[int]:
    """Return `pairs + 1` indices below `n`: random orders in a row, neighbours always different."""
    generator = torch.Generator().manual_seed(seed)
    chain: list[int] = []
    while len(chain) < pairs + 1:
        order = torch.randperm(n, generator=generator).tolist()
        if chain and chain[-1] == order[0]:
            order[0], order[-1] = order[-1], order[0]
        chain.extend(order)
    return chain[: pairs + 1]


def activation_scale(phi: Phi, images: Tensor, pairs: int = 512, *, seed: int = 0, batch: int = 8) -> float:
    """Return s_Phi, the root mean square difference per element between activations of two patches.

    Pairs are the neighbours in a chain through random orders of the patches, so each activation serves two
    pairs and at most `batch + 1` of them are held at once.

    Args:
        phi: maps patches `(n, 1, H, W)` in HU to their activation, a tensor or a sequence of them.
        images: held-out body patches of one dose, `(n, 1, H, W)`, HU; at least two.
        pairs: pairs to average over.
        seed: seed of the choice of pairs.
        batch: patches that go through `phi` at once.

    Raises:
        InputError: fewer than two patches.
    """
    if len(images) < 2 or pairs < 1:
        raise InputError(
            f"the activation's scale needs at least 2 patches and 1 pair, got {len(images)} and {pairs}"
        )
    chain = _chain(len(images), pairs, seed)
    previous: tuple[Tensor, ...] | None = None
    total = 0.0
    for start in range(0, len(chain), batch):
        z = _parts(phi(images[chain[start : start + batch]]))
        if previous is not None:
            z = tuple(torch.cat([last, part]) for last, part in zip(previous, z, strict=True))
        distances = activation_distance(tuple(part[1:] for part in z), tuple(part[:-1] for part in z))
        total += float(distances.square().sum())
        previous = tuple(part[-1:].clone() for part in z)
    return math.sqrt(total / pairs)


def dose_noise_distance(phi: Phi, y: Tensor, noise: Tensor, *, scale: float = 1.0) -> Tensor:
    """Return eta, the distance of Phi between two noise realisations of the same anatomy at the same dose.

    eta^2 = E|Phi(y + n1) - Phi(y + n2)|^2 per element, which is twice the variance of Phi over noise; so
    every draw serves, not only disjoint pairs.

    Args:
        phi: maps images in HU to their activation.
        y: high-dose images, `(B, 1, H, W)`, HU.
        noise: low-dose noise to add, `(K, B, 1, H, W)`, HU, at least two draws.
        scale: s_Phi for the relative distance; 1 for the activation's own unit.

    Returns:
        Shape `(B,)`, float64.

    Raises:
        InputError: fewer than two draws.
    """
    if len(noise) < 2:
        raise InputError(f"the distance between noise realisations needs at least 2 draws, got {len(noise)}")
    moments: list[StreamingMoments] = []
    for draw in noise:
        parts = _parts(phi(y + draw))
        moments = moments or [StreamingMoments() for _ in parts]
        for moment, part in zip(moments, parts, strict=True):
            moment.update(part[None])
    variances = [moment.std.square().flatten(1) for moment in moments]
    elements = sum(variance.shape[1] for variance in variances)
    return torch.stack([variance.sum(1) for variance in variances]).sum(0).mul(2 / elements).sqrt() / scale
