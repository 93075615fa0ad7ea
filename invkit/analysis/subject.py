"""The image that is analysed: the user's, or the CT slice that ships with pydicom."""

__all__ = ["Subject", "choose_subject"]

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from invkit.artifacts import state_fingerprint
from invkit.data.dose.image import estimate_noise, simulate_low_dose
from invkit.data.images import Scan, as_image, default_scan, read_scan
from invkit.data.slices import HU_RANGE
from invkit.errors import ImageError
from invkit.images.box import Box
from invkit.images.region import Region
from invkit.noise.scans import NoiseScans
from invkit.training.seeds import generator

Data = str | Path | np.ndarray | Tensor | Scan | None


@dataclass(frozen=True)
class Subject:
    """What is analysed.

    Args:
        x: low-dose images, `(B, 1, H, W)`, HU.
        y: their high-dose partners where low dose was simulated here, else `None`.
        noise: standard deviation of the noise that was added to each image, HU; 0 where none was.
        description: which image this is, one line for people; holds no patient attribute.
        sha256: fingerprint of x.
        region: the pixels that spreads are measured on and figures show; `None` for all.
        spacing: distance of the pixels' centres, mm; `None` where it is not known.
        noise_scans: scans whose noise is that of the images; `None` where it is simulated.
        structure: a marked one, of which it is asked whether it is real; `None` for none.
    """

    x: Tensor
    y: Tensor | None
    noise: tuple[float, ...]
    description: str
    sha256: str
    region: Region | None = None
    spacing: float | None = None
    noise_scans: NoiseScans | None = None
    structure: Box | None = None


def choose_subject(
    data: Data,
    *,
    seed: int,
    dose: float | None = None,
    default_dose: float = 0.25,
    hu_range: tuple[float, float] | None = None,
    spacing: float | None = None,
) -> Subject:
    """Return the image to analyse.

    Args:
        data: a path, an array or tensor in HU, or `None` for pydicom's CT slice with its dose reduced by simulation.
        seed: of the simulated noise.
        dose: reduce the dose of the user's image to this fraction; `None` takes it for low dose as it is.
        default_dose: to which the dose of the default image is reduced.
        hu_range: HU of the smallest and largest value of a PNG or TIFF.
        spacing: distance of the pixels' centres, mm; `None` for what the file states, if anything.

    Raises:
        ImageError: the data are no usable image.
        UsageError: the dose is not in (0, 1].
    """
    stated = None
    if data is None:
        image, stated, _ = default_scan()
        what = "the CT slice of 128 x 128 pixels that ships with pydicom"
        dose = default_dose if dose is None else dose
    elif isinstance(data, str | Path | Scan):
        scan = data if isinstance(data, Scan) else read_scan(data, hu_range=hu_range)
        image, stated = scan.image, scan.spacing
        what = _counted(image, scan.origin)
    else:
        image = as_image(data)
        what = _counted(image, "given as an array")
    if min(image.shape[-2:]) < 16:
        raise ImageError(
            f"an image of {image.shape[-2]} x {image.shape[-1]} pixels is too small; it needs at least 16 x 16"
        )
    known = stated if spacing is None else float(spacing)
    if dose is None or dose == 1:
        own = state_fingerprint({"x": image})
        return Subject(image, None, (0.0,) * len(image), f"{what}, taken as it is", own, spacing=known)
    noise = [estimate_noise(one) for one in image[:, 0]]
    x = simulate_low_dose(image, noise=torch.tensor(noise), dose=dose, generator=generator(seed, "dose"))
    # As in the pairs that everything is trained on: a scanner stores nothing below air.
    x = x.clamp(*HU_RANGE)
    added = tuple(level * (1 / dose - 1) ** 0.5 for level in noise)
    what += f", dose reduced to {dose:g} by simulation (noise of {np.mean(added):.0f} HU added in the image)"
    return Subject(x, image, added, what, state_fingerprint({"x": x}), spacing=known)


def _counted(image: Tensor, how: str) -> str:
    count, size = len(image), f"{image.shape[-2]} x {image.shape[-1]}"
    return f"{'an image' if count == 1 else f'{count} images'} of {size} pixels {how}"
