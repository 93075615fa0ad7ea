"""The user's own noise: repeat scans of one object, from files or arrays."""

__all__ = ["NoiseScans", "read_noise_scans"]

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from invkit.artifacts import state_fingerprint
from invkit.data.dicom.archive import shown
from invkit.data.images import Scan, as_image, read_scan
from invkit.errors import InputError
from invkit.noise.covariance import NoiseCovariance
from invkit.noise.measured import LEAST_SIDE, MeasuredNoise, same_anatomy
from invkit.noise.simulated import LEAST_NOISE, simulated_deviation
from invkit.statistics.intervals import number

SPACING = 0.01  # of the image's, by which the pixels of the scans may differ


@dataclass(frozen=True)
class NoiseScans:
    """Scans that show the same object.

    Args:
        images: of the slice k in the scan n, `(K, N, H, W)`, HU; N is at least 2.
        spacing: distance of the pixels' centres, mm; `None` where it is not known.
        name: where they are from, for people.

    Raises:
        InputError: there is one scan only, they are too small, or do not differ.
    """

    images: Tensor
    spacing: float | None
    name: str

    def __post_init__(self) -> None:
        count, size = self.images.shape[1], tuple(self.images.shape[-2:])
        if count < 2:
            raise InputError(
                f"noise is measured on differences of scans, but {self.name} holds one only. Give at least two scans of the same "
                "object at the same dose: a stack of slices of a phantom, or one folder or .npy file for each repeat scan"
            )
        if min(size) < LEAST_SIDE:
            raise InputError(
                f"the scans of {self.name} have {size[0]} x {size[1]} pixels; a noise spectrum needs at least "
                f"{LEAST_SIDE} x {LEAST_SIDE}"
            )
        off = float(self.images.diff(dim=1).square().mean().sqrt())
        if off < LEAST_NOISE:
            raise InputError(
                f"the scans of {self.name} differ by {number(off)} HU: they hold no noise, or are copies of one "
                "scan. Give scans that were acquired anew"
            )

    @cached_property
    def measured(self) -> tuple[MeasuredNoise, ...]:
        """Deviation and spectrum of each slice; the spectrum is that of all."""
        return MeasuredNoise.of(self.images)

    @cached_property
    def fingerprint(self) -> str:
        """Of all pixels."""
        return state_fingerprint({"scans": self.images})

    def check(self, spacing: float | None) -> None:
        """Refuse an image whose pixels, in mm, are not those of the scans.

        Raises:
            InputError: they are not.
        """
        own = self.spacing
        if spacing is not None and own is not None and not math.isclose(spacing, own, rel_tol=SPACING):
            raise InputError(
                f"the scans of {self.name} have pixels of {own:g} mm, the image of {spacing:g} mm: noise has another spectrum "
                "there. Reconstruct the scans with the image's field of view and matrix"
            )

    def covariance(self, x: Tensor, spacing: float | None) -> NoiseCovariance:
        """Return the covariance of the noise of an image.

        Where one of the slices shows what the image shows, the deviation is that of this slice, pixel by pixel. Where none does, as
        for a phantom, the scans give level and spectrum, and the map is that of the physical simulation, its median over soft
        tissue that of the scans; one deviation for all where the image cannot be simulated.

        Args:
            x: the whole image, `(1, 1, H, W)`, HU.
            spacing: distance of its pixels' centres, mm; `None` where it is not known.

        Raises:
            InputError: the scans have pixels of another size.
        """
        self.check(spacing)
        for scans, measured in zip(self.images, self.measured, strict=True):
            if same_anatomy(scans.mean(0), x[0, 0].cpu()):
                deviation = measured.deviation.to(x.dtype).to(x.device)
                return NoiseCovariance(deviation, measured.power, source="scans")
        measured = self.measured[0]
        simulated = simulated_deviation(x, spacing or self.spacing, level=measured.level)
        constant = torch.full_like(x[0, 0], measured.level)
        return NoiseCovariance(constant if simulated is None else simulated, measured.power, source="scans")


def read_noise_scans(data: str | Path | np.ndarray | Tensor | Scan) -> NoiseScans:
    """Return repeat scans.

    Args:
        data: a folder that holds folders or `.npy` files, one for each scan of the same slices; or a folder, file or array of
            slices that all show the same, as those through a uniform phantom do.

    Raises:
        ImageError: they are no usable images.
        InputError: they have different sizes or numbers of slices, or tell of no noise.
    """
    if not isinstance(data, str | Path):
        scan = data if isinstance(data, Scan) else Scan(as_image(data), None)
        return NoiseScans(scan.image[:, 0].cpu()[None], scan.spacing, "the array")
    path = Path(data)
    scans = [read_scan(part) for part in _parts(path)]
    name = shown(path.name or path)
    shapes = sorted({tuple(scan.image.shape) for scan in scans})
    if len(shapes) > 1:
        listed = ", ".join(f"{rows} x {columns} ({count} slices)" for count, _, rows, columns in shapes[:5])
        raise InputError(
            f"the scans in {name} differ in size: {listed}. Give scans of the same slices, of the same size"
        )
    spacings = {scan.spacing for scan in scans}
    if len(spacings) > 1:
        raise InputError(f"the scans in {name} differ in the size of their pixels. Give repeat scans")
    images = torch.stack([scan.image[:, 0] for scan in scans], dim=1)
    return NoiseScans(images if len(scans) > 1 else images.transpose(0, 1), spacings.pop(), name)


def _parts(path: Path) -> list[Path]:
    """Return what holds one scan each: arrays or folders in a folder, else the path itself."""
    if not path.is_dir():
        return [path]
    inside = sorted(one for one in path.iterdir() if not one.name.startswith("."))
    arrays = [one for one in inside if one.suffix == ".npy"]
    return arrays or [one for one in inside if one.is_dir()] or [path]
