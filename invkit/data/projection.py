"""Line integrals of a slice along parallel rays."""

__all__ = ["project"]

import math

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

CHUNK = 2**19  # samples at once


def project(
    image: Tensor, spacing: tuple[float, float], angles: Tensor, offsets: Tensor, *, step: float | None = None
) -> Tensor:
    """Return the integrals of images along parallel rays, shape `(B, V, n)`, in units of the image times mm.

    A ray of angle a and offset t holds the points with x cos(a) + y sin(a) = t, where x grows with the columns,
    y with the rows, and both are 0 in the centre of the image. The image is interpolated linearly, and is 0
    outside.

    Args:
        image: shape `(B, 1, H, W)`.
        spacing: distance of the rows and of the columns, mm.
        angles: shape `(V,)`, rad.
        offsets: shape `(n,)`, mm.
        step: distance of the points that are summed along a ray, mm; by default the smaller spacing.
    """
    height, width = image.shape[-2:]
    step = step or min(spacing)
    reach = math.hypot(height * spacing[0], width * spacing[1]) / 2
    points = 2 * math.ceil(reach / step)
    along = (torch.arange(points, dtype=torch.float64) - (points - 1) / 2) * step
    half_x, half_y = width * spacing[1] / 2, height * spacing[0] / 2
    device = image.device
    stack = image.transpose(0, 1).to(torch.float32)
    angles, offsets, along = (values.to(torch.float64).cpu() for values in (angles, offsets, along))
    sums = []
    for part in torch.split(angles, max(1, CHUNK // (points * len(offsets)))):
        cosine, sine = part.cos()[:, None], part.sin()[:, None]
        start_x, start_y = cosine * offsets / half_x, sine * offsets / half_y
        run_x, run_y = -sine * along / half_x, cosine * along / half_y
        grid = stack.new_empty((len(part), len(offsets), points, 2))
        for axis, (start, run) in enumerate(((start_x, run_x), (start_y, run_y))):
            start, run = (values.to(device=device, dtype=torch.float32) for values in (start, run))
            torch.add(start[:, :, None], run[:, None, :], out=grid[..., axis])
        # One grid for each view, for grid_sample shares a batch out to threads.
        views = stack.expand(len(part), -1, -1, -1)
        samples = grid_sample(views, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        sums.append(samples.sum(dim=-1).transpose(0, 1))
    return torch.cat(sums, dim=1) * step
