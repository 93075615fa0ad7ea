"""Filtered back-projection of parallel rays: the reconstruction filter, and the sum over all directions."""

__all__ = ["backproject", "filter_rays", "filter_taps"]

import math
from itertools import product

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag, pad

from invkit.data.dose.kernel import Kernel
from invkit.errors import UsageError

TILE = 32  # side of the tiles that are looked up at once, pixels: the rays that cross one stay in the processor's cache
VIEWS = 32  # that are filtered at once
MARGIN = 2  # zeros on either side of a view, for pixels that no ray reaches


def filter_taps(rays: int, ray_spacing: float, kernel: Kernel) -> Tensor:
    """Return the reconstruction filter in space, shape `(m,)`, 1/mm, float64, its centre at index 0, periodic.

    It is the band-limited ramp (Kak and Slaney 1988, equation 3.61) times the kernel, divided by what linear
    interpolation between rays takes away.

    Args:
        rays: number of rays in a view.
        ray_spacing: their distance, mm.
        kernel: the apodisation.
    """
    size = 2 ** math.ceil(math.log2(2 * rays))
    place = torch.fft.fftfreq(size, 1 / size, dtype=torch.float64)
    ramp = torch.where(place % 2 == 1, -1 / (math.pi * place * ray_spacing) ** 2, torch.zeros_like(place))
    ramp[0] = 1 / (2 * ray_spacing) ** 2
    frequency = torch.fft.rfftfreq(size, ray_spacing, dtype=torch.float64)
    interpolation = torch.special.sinc(frequency * ray_spacing) ** 2
    spectrum = torch.fft.rfft(ramp * ray_spacing).real * kernel.response(frequency) / interpolation
    taps: Tensor = torch.fft.irfft(spectrum, n=size)
    return taps


def filter_rays(sinogram: Tensor, ray_spacing: float, kernel: Kernel) -> Tensor:
    """Return the views of shape `(B, V, n)` convolved with `filter_taps`, of the same shape."""
    rays = sinogram.shape[-1]
    taps = filter_taps(rays, ray_spacing, kernel).to(sinogram)
    response = torch.fft.rfft(taps)
    # A few views at a time, whose spectra stay in the processor's cache.
    filtered = [
        torch.fft.irfft(torch.fft.rfft(views, n=len(taps)).mul_(response), n=len(taps))[..., :rays]
        for views in torch.split(sinogram, VIEWS, dim=1)
    ]
    return torch.cat(filtered, dim=1)


def backproject(
    sinogram: Tensor, size: tuple[int, int], spacing: tuple[float, float], ray_spacing: float
) -> Tensor:
    """Return the sum over all views of the value at each pixel's ray, shape `(B, 1, H, W)`.

    The views have the angles (i + 1/2) 180/V degrees, their rays are symmetric around the centre of rotation,
    which is the centre of the image. Between rays is interpolated linearly; a pixel outside of them gets 0.

    The angles a and 180 - a, and the pixels on either side of the centre, meet rays of the same offset but
    for its sign. So half of the pixels and half of the views are looked up, four values at a time.

    Args:
        sinogram: shape `(B, V, n)`, V even.
        size: rows and columns of the image.
        spacing: distance of the rows and of the columns, mm.
        ray_spacing: distance of the rays, mm.

    Raises:
        UsageError: V is odd.
    """
    batch, views, rays = sinogram.shape
    if views % 2:
        raise UsageError(f"back-projection needs an even number of views, got {views}")
    height, width = size
    device, half = sinogram.device, views // 2
    table = _lookup_table(sinogram)
    columns = table.shape[0] // half
    angle = (torch.arange(half, dtype=torch.float64) + 0.5) * (math.pi / views)
    # In units of rays, from the first of them; float64 until here, so that no offset is off by rounding.
    x = (torch.arange(width, dtype=torch.float64) - (width - 1) / 2) * (spacing[1] / ray_spacing)
    y = (torch.arange(height, dtype=torch.float64) - (height - 1) / 2) * (spacing[0] / ray_spacing)
    lower = y[height // 2 :]
    along_x = (x[:, None] * angle.cos()).to(device, torch.float32)
    along_y = (lower[:, None] * angle.sin() + (MARGIN + (rays - 1) / 2)).to(device, torch.float32)
    first = torch.arange(half, device=device, dtype=torch.int32) * columns
    outside = math.hypot(float(x[-1]), float(y[-1])) > (rays - 1) / 2
    total = table.new_empty((len(lower), width, table.shape[1]))
    for down, across in product(range(0, len(lower), TILE), range(0, width, TILE)):
        tile = (slice(down, down + TILE), slice(across, across + TILE))
        place = (along_y[tile[0], None] + along_x[tile[1]]).reshape(-1, half)
        if outside:
            place.clamp_(0, columns - MARGIN)
        before = place.floor()
        weight = place.sub_(before)
        index = before.to(torch.int32).add_(first)
        found = embedding_bag(index, table, mode="sum", per_sample_weights=1 - weight)
        found += embedding_bag(index, table[1:], mode="sum", per_sample_weights=weight)
        total[tile] = found.reshape_as(total[tile])
    return _four_quarters(total.reshape(len(lower), width, 4, batch).permute(3, 2, 0, 1), height)


def _lookup_table(sinogram: Tensor) -> Tensor:
    """Return rows of the values that share one lookup: both angles, both signs of the offset, every image."""
    half = sinogram.shape[1] // 2
    padded = pad(sinogram.to(torch.float32), (MARGIN, MARGIN))
    near, far = padded[:, :half], padded.flip(1)[:, :half]
    values = torch.stack([near, near.flip(-1), far, far.flip(-1)])
    return values.permute(2, 3, 0, 1).reshape(half * padded.shape[-1], -1).contiguous()


def _four_quarters(values: Tensor, height: int) -> Tensor:
    """Return the image of shape `(B, 1, H, W)` from the lookups of its lower half, shape `(B, 4, rows, W)`."""
    near, near_flipped, far, far_flipped = values.unbind(1)
    lower = near + far.flip(-1)
    upper = (near_flipped.flip(-1) + far_flipped).flip(-2)
    if height % 2:
        # The middle row is its own mirror image: each half holds all of it.
        upper = upper[:, :-1]
    return torch.cat([upper, lower], dim=1)[:, None]
