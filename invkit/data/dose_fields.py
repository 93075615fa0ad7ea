"""Noise of both doses on a whole slice, simulated on the rays of a scanner, for patches to be cut from."""

from __future__ import annotations

__all__ = ["KERNELS_OF_SLICES", "DoseFields", "dose_fields"]

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from invkit.data.simulate import add_dose_noise, simulate_dose
from invkit.errors import UsageError
from invkit.training.seeds import derive_seed

if TYPE_CHECKING:
    from invkit.data.slices import Slice

KERNELS_OF_SLICES = ("ge_standard", "toshiba_fc17")
SPACING = (0.8, 0.8)  # mm, of slices that state none
REALISATIONS = 2


@dataclass(frozen=True, eq=False)
class DoseFields:
    """Two independent realisations of a slice's noise. Mixed at an angle they are a third: `cos n1 + sin n2`.

    Args:
        own: noise of full dose, shape `(2, H, W)`, float16, HU; `None` for CT, whose own noise is in it.
        added: what the lower dose adds, shape `(2, H, W)`, float16, HU.
    """

    own: np.ndarray | None
    added: np.ndarray

    @staticmethod
    def mixed(fields: np.ndarray, word: int) -> np.ndarray:
        """Return a realisation of the noise, float32, at an angle that a random 64-bit word gives.

        Args:
            fields: both realisations, or the same part of both, shape `(2, ...)`.
            word: from 0 to 2**64 - 1.
        """
        angle = 2 * math.pi * (word / 2**64)
        mix: np.ndarray = fields[0] * np.float32(math.cos(angle)) + fields[1] * np.float32(math.sin(angle))
        return mix


def dose_fields(item: Slice, dose: float) -> DoseFields:
    """Return the noise of a slice at full dose and what a lower dose adds, by `invkit.data.simulate`.

    Half of the slices have the kernel of one scanner, half that of the other, by a hash. There is no electronic noise: how
    much a scanner has is not known of these slices.

    Args:
        item: the slice; its `noise` is that of full dose in soft tissue.
        dose: fraction of the full dose, in (0, 1).

    Raises:
        UsageError: the dose is not in (0, 1).
    """
    if not 0 < dose < 1:
        raise UsageError(f"what a lower dose adds needs a dose in (0, 1), got {dose!r}")
    name = derive_seed(0, "physical", item.source, item.patient)
    spacing = item.spacing or SPACING
    kernel = KERNELS_OF_SLICES[name % len(KERNELS_OF_SLICES)]
    own, added = [], []
    clean = item.clean
    image = torch.from_numpy(np.ascontiguousarray(item.image if clean is None else clean))[None, None]
    for realisation in range(REALISATIONS):
        if clean is None:
            seed = derive_seed(name, "realisation", realisation)
            x = simulate_dose(
                image, spacing, dose=dose, seed=seed, noise=item.noise, electronic=0.0, kernel=kernel
            )
            added.append((x - image)[0, 0].numpy())
        else:
            assert item.noise_seed is not None
            seed = derive_seed(item.noise_seed, "realisation", realisation)
            y, x = add_dose_noise(
                image, spacing, dose=dose, seed=seed, noise=item.noise, electronic=0.0, kernel=kernel
            )
            own.append((y - image)[0, 0].numpy())
            added.append((x - y)[0, 0].numpy())
    return DoseFields(_half(own) if own else None, _half(added))


def _half(fields: list[np.ndarray]) -> np.ndarray:
    # A hundredth of a HU is lost at 16 HU.
    return np.stack(fields).astype(np.float16)
