"""A direct fan-beam scan in numpy, to check the rebinned rays of the product against: equiangular, no rebinning."""

import math

import numpy as np
import torch
from dose_noise import noisy_pair

from invkit.data.dose.geometry import ScannerGeometry
from invkit.data.dose.kernel import KERNELS
from invkit.data.dose.physics import WATER

SOURCE, CHANNEL_ANGLE, CHANNELS = 595.0, 1.2858 / 1085.6, 736


def fan_angles():
    return (np.arange(CHANNELS) - (CHANNELS - 1) / 2) * CHANNEL_ANGLE


def fan_integrals(image, pixel, views):
    """Line integrals of every ray of a rotation, by sums over points between which the image is constant."""
    size = len(image)
    steps = np.arange(-size * pixel * 0.75, size * pixel * 0.75, pixel / 2)
    out = np.empty((views, CHANNELS))
    for view in range(views):
        beta = 2 * math.pi * view / views
        # A ray leaves the source at R (cos, sin)(beta) and passes the centre at a distance of R sin(gamma).
        direction = beta + math.pi + fan_angles()
        foot = SOURCE * np.cos(fan_angles())
        x = SOURCE * math.cos(beta) + (foot[:, None] + steps) * np.cos(direction)[:, None]
        y = SOURCE * math.sin(beta) + (foot[:, None] + steps) * np.sin(direction)[:, None]
        column, row = (np.rint(place / pixel + (size - 1) / 2).astype(int) for place in (x, y))
        inside = (column >= 0) & (column < size) & (row >= 0) & (row < size)
        values = image[row.clip(0, size - 1), column.clip(0, size - 1)] * inside
        out[view] = values.sum(axis=1) * pixel / 2
    return out


def fan_reconstruction(sinogram, size, pixel, response):
    """Filtered back-projection of a full rotation (Kak and Slaney 1988, section 3.4.1)."""
    views = len(sinogram)
    gamma = fan_angles()
    length = 2 ** math.ceil(math.log2(2 * CHANNELS))
    place = np.fft.fftfreq(length, 1 / length)
    angle = place * CHANNEL_ANGLE
    taps = np.zeros(length)
    odd = place % 2 == 1
    taps[odd] = -1 / (math.pi * angle[odd]) ** 2 * (angle[odd] / np.sin(angle[odd])) ** 2
    taps[0] = 1 / (2 * CHANNEL_ANGLE) ** 2
    frequency = np.fft.rfftfreq(length, CHANNEL_ANGLE * SOURCE)
    spectrum = (
        np.fft.rfft(taps * CHANNEL_ANGLE)
        * response(frequency)
        / np.sinc(frequency * CHANNEL_ANGLE * SOURCE) ** 2
    )
    weighted = sinogram * np.cos(gamma) * SOURCE
    filtered = np.fft.irfft(np.fft.rfft(weighted, length) * spectrum, length)[:, :CHANNELS]
    axis = (np.arange(size) - (size - 1) / 2) * pixel
    x, y = np.meshgrid(axis, axis)
    total = np.zeros((size, size))
    for view in range(views):
        beta = 2 * math.pi * view / views
        toward = SOURCE - (x * math.cos(beta) + y * math.sin(beta))
        # The angle of a pixel's ray, from the ray through the centre.
        across = x * math.sin(beta) - y * math.cos(beta)
        channel = np.arctan2(across, toward) / CHANNEL_ANGLE + (CHANNELS - 1) / 2
        total += np.interp(channel, np.arange(CHANNELS), filtered[view], left=0, right=0) / (
            toward**2 + across**2
        )
    return total * math.pi / views


def noise_of_both(size, pixel, views, *, body, bone, n, photons=2e5):
    """Noise at full dose of an ellipse of water with two bones in it: ours, the direct scan's, and where pixels are.

    Args:
        size: of the image, pixels.
        pixel: their distance, mm.
        views: of a rotation.
        body: half axes of the ellipse, mm.
        bone: distance of the bones from the middle, mm; their radius, mm; and HU.
        n: realisations.
        photons: per unattenuated ray.

    Returns:
        Both noises, `(n, size, size)`, HU, and the columns' and rows' places, mm.
    """
    axis = (np.arange(size) - (size - 1) / 2) * pixel
    x, y = np.meshgrid(axis, axis)
    image = np.where((x / body[0]) ** 2 + (y / body[1]) ** 2 < 1, 0.0, -1000.0)
    image[(np.abs(x) - bone[0]) ** 2 + y**2 < bone[1] ** 2] = bone[2]
    integrals = fan_integrals(WATER * (1 + image / 1000), pixel, views)
    random = np.random.Generator(np.random.Philox(0))

    def response(frequency):
        return KERNELS["standard"].response(torch.from_numpy(frequency)).numpy()

    noises = [
        random.standard_normal(integrals.shape) * np.exp(integrals / 2) / math.sqrt(photons) for _ in range(n)
    ]
    fan = np.array([fan_reconstruction(noise, size, pixel, response) for noise in noises]) / WATER * 1000
    clean = torch.from_numpy(image).float()[None, None].expand(n, -1, -1, -1)
    geometry = ScannerGeometry(views=views)
    noisy, _ = noisy_pair(
        clean, (pixel, pixel), dose=1.0, seed=0, photons=photons, electronic=0.0, geometry=geometry
    )
    return (noisy - clean)[:, 0].numpy(), fan, x, y
