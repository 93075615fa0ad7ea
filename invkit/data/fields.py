"""Noise of both doses on a whole slice, simulated on the rays of a scanner, for patches to be cut from."""

from __future__ import annotations

__all__ = ["KERNELS_OF_SLICES", "SPACING", "DoseFields", "dose_fields", "one_realisation"]

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from invkit.data.dose.rays import SIMULATION_VERSION, noise_realisations
from invkit.data.dose.scanner import Scanner
from invkit.data.kept import keep_array
from invkit.data.phantoms.phantom import PHANTOM_VERSION, Phantom
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
    def mix(fields: np.ndarray, word: int) -> np.ndarray:
        """Return a realisation of the noise, float32, at an angle that a random 64-bit word gives.

        Args:
            fields: both realisations, or the same part of both, shape `(2, ...)`.
            word: from 0 to 2**64 - 1.
        """
        angle = 2 * math.pi * (word / 2**64)
        mix: np.ndarray = fields[0] * np.float32(math.cos(angle)) + fields[1] * np.float32(math.sin(angle))
        return mix


def dose_fields(item: Slice, dose: float, keep: Path | None = None) -> DoseFields:
    """Return the noise of a slice at full dose and what a lower dose adds, by `invkit.data.dose.rays`.

    Half of the slices have the kernel of one scanner, half that of the other, by a hash. There is no electronic noise: how
    much a scanner has is not known of these slices.

    Args:
        item: the slice; its `noise` is that of full dose in soft tissue.
        dose: fraction of the full dose, in (0, 1).
        keep: folder in which what was simulated is kept, and read from without taking up memory: 2 MB for a phantom of
            512 x 512 pixels, 1 MB for CT.

    Raises:
        UsageError: the dose is not in (0, 1).
    """
    if not 0 < dose < 1:
        raise UsageError(f"the noise that a lower dose adds needs a dose in (0, 1), got {dose!r}")
    pixels, clean = _pixels(item)
    seed = (
        derive_seed(0, "physical", item.source, item.patient) if item.noise_seed is None else item.noise_seed
    )
    file = None
    if keep is not None:
        described = (
            f"{SIMULATION_VERSION}|{dose!r}|{_kernel(item)}|{item.spacing}|{item.noise!r}|{seed}|{clean}|"
        )
        file = keep / f"{hashlib.sha256(described.encode() + _identity(item, pixels)).hexdigest()[:32]}.npy"
        kept = _read(file, ((1 + clean) * REALISATIONS, *pixels.shape))
        if kept is not None:
            return _split(kept)
    seeds = [derive_seed(seed, "realisation", number) for number in range(REALISATIONS)]
    # A hundredth of a HU is lost at 16 HU.
    fields = _simulated(item, pixels, clean, dose, seeds).astype(np.float16)
    if file is not None:
        keep_array(file, fields)
    return _split(fields)


def one_realisation(item: Slice, dose: float, seed: int) -> tuple[np.ndarray | None, np.ndarray]:
    """Return one draw of the noise of full dose, `None` for CT, and of what a lower dose adds, `(H, W)`, float32, HU.

    Args:
        item: the slice.
        dose: fraction of the full dose, in (0, 1).
        seed: decides the draw.
    """
    pixels, clean = _pixels(item)
    fields = _simulated(item, pixels, clean, dose, [seed])
    return fields[1] if clean else None, fields[0]


def _pixels(item: Slice) -> tuple[np.ndarray, bool]:
    """Return the pixels that noise is simulated for, and whether they are without noise."""
    clean = item.clean
    return np.ascontiguousarray(item.image if clean is None else clean), clean is not None


def _identity(item: Slice, pixels: np.ndarray) -> bytes:
    """Return what decides the pixels: of a phantom what it is made from, since rounding may differ with the threads."""
    if isinstance(item.pixels, Phantom):
        made_from = (PHANTOM_VERSION, item.pixels.seed, item.pixels.index, item.pixels.size)
        return f"phantom {made_from}".encode()
    return f"{pixels.shape}|{pixels.dtype}|".encode() + hashlib.sha256(pixels.tobytes()).digest()


def _kernel(item: Slice) -> str:
    return KERNELS_OF_SLICES[derive_seed(0, "physical", item.source, item.patient) % len(KERNELS_OF_SLICES)]


def _simulated(item: Slice, pixels: np.ndarray, clean: bool, dose: float, seeds: Sequence[int]) -> np.ndarray:
    """Return what the lower dose adds, once for each seed, then the noise of full dose where there was none."""
    own, added = noise_realisations(
        torch.from_numpy(pixels)[None, None],
        item.spacing or SPACING,
        dose=dose,
        seeds=seeds,
        noise=item.noise,
        clean=clean,
        scanner=Scanner(electronic=0.0, kernel=_kernel(item)),
    )
    fields: np.ndarray = (added if own is None else torch.cat([added, own]))[:, 0].numpy()
    return fields


def _split(fields: np.ndarray) -> DoseFields:
    own = fields[REALISATIONS:]
    return DoseFields(own if len(own) else None, fields[:REALISATIONS])


def _read(file: Path, shape: tuple[int, ...]) -> np.ndarray | None:
    """Return what was kept, which stays on disk; `None` where nothing was, or not all of it."""
    try:
        fields: np.ndarray = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return fields if fields.shape == shape and fields.dtype == np.float16 else None
