"""The scanner of a dose simulation: where its source and detector are, and the parallel rays it measures."""

__all__ = ["ScannerGeometry"]

import math

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor


class ScannerGeometry(BaseModel):
    """A third-generation scanner: a fan of rays from one source to an arc of detector channels.

    The defaults are those of LDCT-and-Projection-data's SOMATOM Definition Flash (Chen et al. 2015, DICOM-CT-PD
    headers). The detector is as wide as a slice needs.

    A full rotation measures every line twice, from either end. With the usual detector offset of a quarter
    channel the two lie half a channel apart, so that after rebinning to parallel rays (Stierstorfer et al.
    2004) there are `views / 2` directions over 180 degrees, and rays `ray_spacing` apart. Noise is drawn and
    reconstructed on these rays. The source that sees a ray is known still; a bowtie filter and the tube
    current depend on it.

    Args:
        views: projections in one rotation, a multiple of 4.
        source_isocentre: distance from the source to the centre of rotation, mm.
        source_detector: distance from the source to the detector, mm.
        channel: width of a detector channel, mm.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    views: int = Field(1152, ge=8, multiple_of=4)
    source_isocentre: float = Field(595.0, gt=0, allow_inf_nan=False)
    source_detector: float = Field(1085.6, gt=0, allow_inf_nan=False)
    channel: float = Field(1.2858, gt=0, allow_inf_nan=False)

    @property
    def ray_spacing(self) -> float:
        """Distance of neighbouring parallel rays in the centre of rotation, mm."""
        return self.channel * self.source_isocentre / self.source_detector / 2

    def angles(self, part: int = 1) -> Tensor:
        """Return the directions over 180 degrees, rad; with `part`, about one of so many, at their middles."""
        directions = max(2, 2 * math.ceil(self.views / 4 / part))
        return (torch.arange(directions, dtype=torch.float64) + 0.5) * (math.pi / directions)

    def offsets(self, size: tuple[int, int], spacing: tuple[float, float], part: int = 1) -> Tensor:
        """Return the distances of the rays that cross a slice from the centre of rotation, mm.

        They are symmetric around 0, `part` times `ray_spacing` apart, and as many as a multiple of 8 over
        `part`.

        Args:
            size: rows and columns of the slice.
            spacing: distance of its rows and of its columns, mm.
            part: take one of so many rays (1, 2, 4 or 8), at their middles.
        """
        radius = math.hypot(size[0] * spacing[0], size[1] * spacing[1]) / 2
        rays = 8 * math.ceil(radius / self.ray_spacing / 4 + 0.25) // part
        return (torch.arange(rays, dtype=torch.float64) - (rays - 1) / 2) * (self.ray_spacing * part)

    def fan_angle(self, offsets: Tensor) -> Tensor:
        """Return the angle between a ray and the one through the centre of rotation, seen from the source, rad."""
        return torch.asin((offsets / self.source_isocentre).clamp(-1, 1))
