"""Line integrals of a slice along parallel rays."""

__all__ = ["project"]

import math

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

CHUNK = 2**19  # samples at once
MARGIN = 1.5  # pixels


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
    sides = _support(image)
    sums = []
    for part in torch.split(angles, max(1, CHUNK // (points * len(offsets)))):
        cosine, sine = part.cos()[:, None], part.sin()[:, None]
        rays = _nonzero_span(offsets, cosine, sine, sides, spacing, (height, width))
        places = _nonzero_span(along, -sine, cosine, sides, spacing, (height, width))
        start = torch.complex(cosine * offsets[rays] / half_x, sine * offsets[rays] / half_y)
        run = torch.complex(-sine * along[places] / half_x, cosine * along[places] / half_y)
        start, run = (values.to(device=device, dtype=torch.complex64) for values in (start, run))
        grid = torch.view_as_real(start[:, :, None] + run[:, None, :])
        # One grid for each view, for grid_sample shares a batch out to threads.
        views = stack.expand(len(part), -1, -1, -1)
        found = grid_sample(views, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        samples = stack.new_zeros((len(part), len(image), len(offsets), points))
        samples[:, :, rays, places] = found
        sums.append(samples.sum(dim=-1).transpose(0, 1))
    return torch.cat(sums, dim=1) * step


def _support(image: Tensor) -> tuple[float, float, float, float]:
    """Return the first and last row, and the first and last column, that are not 0 everywhere, 0 for none."""
    marked = (image != 0).flatten(0, 1).any(dim=0)
    found: list[float] = []
    for lines in (marked.any(dim=1), marked.any(dim=0)):
        where = lines.nonzero()
        found += [float(where[0]), float(where[-1])] if len(where) else [0.0, 0.0]
    return found[0], found[1], found[2], found[3]


def _nonzero_span(
    places: Tensor,
    of_x: Tensor,
    of_y: Tensor,
    sides: tuple[float, float, float, float],
    spacing: tuple[float, float],
    size: tuple[int, int],
) -> slice:
    """Return which of some places on a line can lie where the image is not 0, for any of some directions `(V, 1)` of the line."""
    top, bottom, left, right = sides
    # A pixel reaches to the centres of its neighbours, and rounding a little further.
    y = torch.tensor([top - MARGIN, bottom + MARGIN], dtype=torch.float64)
    x = torch.tensor([left - MARGIN, right + MARGIN], dtype=torch.float64)
    y, x = (y - (size[0] - 1) / 2) * spacing[0], (x - (size[1] - 1) / 2) * spacing[1]
    corners = of_x[..., None] * x[:, None] + of_y[..., None] * y
    inside = ((places >= corners.min()) & (places <= corners.max())).nonzero()
    return slice(int(inside[0]), int(inside[-1]) + 1) if len(inside) else slice(0, 0)
