"""A radial filter behind the decoder that gives its images the band energies they lack."""

__all__ = ["Equaliser"]

import torch
from torch import Tensor, nn
from torch.nn import functional

from invkit.images.bands import radial_bands

BANDS = 10
LOWEST, HIGHEST = 0.5, 1.4  # of the energy of images; what lies between is left alone
ROUNDS = 4


class Equaliser(nn.Module):
    """Multiplies the spectrum of an image by a gain that depends on the radial frequency alone.

    A decoder that minimises a squared error leaves out part of what its code cannot hold, most in the middle bands. The
    gains are measured once, on training patches, after the training; until then they are 1 and the image passes as it is.
    The gain of the lowest band is always 1. The image is continued by reflection, so that opposite edges do not meet.
    """

    gain: Tensor

    def __init__(self) -> None:
        super().__init__()
        # Part of a model's settings, not of its parameters: a checkpoint of the training does not have it.
        self.register_buffer("gain", torch.ones(BANDS), persistent=False)
        self._looked: tuple[object, bool] = (None, True)

    def forward(self, images: Tensor) -> Tensor:
        """Return the filtered images, `(B, 1, H, W)`, in the unit they came in."""
        if self._idle():
            return images
        height, width = images.shape[-2:]
        margin = min(height, width) // 8
        padded = functional.pad(images, (margin,) * 4, mode="reflect")
        spectrum = torch.fft.rfft2(padded) * self._response(padded.shape[-2], padded.shape[-1])
        filtered: Tensor = torch.fft.irfft2(spectrum, s=padded.shape[-2:])
        return filtered[..., margin : margin + height, margin : margin + width].contiguous()

    @torch.no_grad()
    def calibrate(self, images: Tensor, reconstructions: Tensor) -> None:
        """Set the gains so that in each band the reconstructions have at least half of the images' energy.

        The energy of a band is taken with and without a Hann window, and the smaller share counts; it is brought to 0.5
        where it is less, and to 1.4 where it is more.

        Args:
            images: training patches, `(n, 1, H, W)`, in the unit of the decoder.
            reconstructions: what the decoder makes of them, unfiltered.
        """
        wanted = [radial_bands(images, BANDS, window=window).sum(0) for window in (True, False)]
        self.gain.fill_(1)
        for _ in range(ROUNDS):
            filtered = self(reconstructions)
            shares = torch.stack(
                [
                    radial_bands(filtered, BANDS, window=window).sum(0) / energy
                    for window, energy in zip((True, False), wanted, strict=True)
                ]
            )
            lack = (LOWEST / shares.amin(0)).clamp_min(1).sqrt()
            excess = (HIGHEST / shares.amax(0)).clamp_max(1).sqrt()
            self.gain[1:] *= (lack * excess)[1:]

    def _idle(self) -> bool:
        """Return whether all gains are 1; asked once for the same gains, for every question waits for the device."""
        state = (self.gain.data_ptr(), self.gain._version)
        if self._looked[0] != state:
            self._looked = (state, bool((self.gain == 1).all()))
        return self._looked[1]

    def _response(self, height: int, width: int) -> Tensor:
        """Return the gain of each `rfft2` coefficient, linear between the middles of the bands."""
        rows = torch.fft.fftfreq(height, device=self.gain.device)[:, None]
        columns = torch.fft.rfftfreq(width, device=self.gain.device)[None, :]
        place = (torch.hypot(rows, columns) / 0.5 * BANDS - 0.5).clamp(0, BANDS - 1)
        below = place.floor().long().clamp_max(BANDS - 2)
        share = place - below
        response: Tensor = self.gain[below] * (1 - share) + self.gain[below + 1] * share
        return response
