"""A channelised Hotelling observer of images and of what f makes of them."""

__all__ = ["CHANNELS", "Detected", "Observed", "best_possible", "laguerre_gauss", "observe"]

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import eval_laguerre, stdtrit
from torch import Tensor

from invkit.noise.covariance import NoiseCovariance
from invkit.statistics.intervals import Interval

Array = NDArray[np.float64]
CHANNELS = 5
BLOCKS = 16  # of groups of scans
LEVEL = 0.95


def laguerre_gauss(size: tuple[int, int], centre: tuple[float, float], width: float, reach: float) -> Tensor:
    """Return channels, `(5, H, W)`, float64: u_n(r) = sqrt(2) / a exp(-pi r^2 / a^2) L_n(2 pi r^2 / a^2), Gallas and Barrett 2003.

    Args:
        size: `(H, W)`.
        centre: row and column.
        width: a, pixels.
        reach: pixels from the centre, beyond which they are 0.
    """
    rows, columns = (np.arange(length) - place for length, place in zip(size, centre, strict=True))
    radius = np.hypot(rows[:, None], columns[None, :])
    argument = 2 * np.pi * (radius / width) ** 2
    shape = math.sqrt(2) / width * np.exp(-argument / 2) * (radius <= reach)
    return torch.from_numpy(np.stack([shape * eval_laguerre(order, argument) for order in range(CHANNELS)]))


def best_possible(channels: Tensor, signal: Tensor, covariance: NoiseCovariance) -> float:
    """Return d' of the channelised Hotelling observer that knows mean and covariance: (s^T K^-1 s)^1/2, s = U^T d, K = U^T C U.

    Args:
        channels: U, `(5, H, W)`, float64.
        signal: d, `(1, H, W)`, HU.
        covariance: C.
    """
    seen = covariance.apply(channels[:, None].to(covariance.deviation)).cpu().double()
    rows = channels.flatten(1)
    matrix, mean = rows @ seen.flatten(1).T, rows @ signal.cpu().double().flatten()
    return float((mean @ torch.linalg.solve(matrix, mean)).clamp(min=0).sqrt())


@dataclass(frozen=True)
class Observed:
    """What channels show of scans at each of P places, in G groups of K scans; the first of each group is seen with a signal, too.

    Args:
        absent: without the signal, `(P, G, K, 5)`, float64.
        present: with it, in the noise of the first of each group, `(P, G, 5)`.
    """

    absent: Tensor
    present: Tensor

    def of(self, places: Tensor, groups: Tensor) -> "Observed":
        """Return some of the places and groups."""
        return Observed(self.absent[places][:, groups], self.present[places][:, groups])

    def difference(self) -> Tensor:
        """Return what the signal changes in the mean, `(5,)`."""
        return (self.present - self.absent[:, :, 0]).mean((0, 1))

    def covariance(self) -> Tensor:
        """Return the mean of both classes' covariance within places, `(5, 5)`.

        What the signal changes of the covariance is taken from pairs, so that their number matters only where it changes much.
        """
        changed = _within(self.present) - _within(self.absent[:, :, 0])
        return _within(self.absent.flatten(1, 2)) + changed / 2


def _within(values: Tensor) -> Tensor:
    """Return the covariance of values `(P, N, 5)` about the means of their places, `(5, 5)`."""
    off = (values - values.mean(1, keepdim=True)).flatten(0, 1)
    return off.T @ off / (values.shape[0] * (values.shape[1] - 1))


@dataclass(frozen=True)
class Detected:
    """Detectability of one signal: of all scans first, then without each of B blocks of them in turn, `(1 + B,)`.

    Args:
        image: detectability in the image.
        output: the same in f of the image.
    """

    image: Array
    output: Array

    @property
    def kept(self) -> Array:
        """Detectability at the output over that in the image."""
        kept: Array = self.output / np.maximum(self.image, 1e-12)
        return kept

    @staticmethod
    def interval(values: Array) -> Interval:
        """Return a value with its interval by the jackknife, which also takes out the bias of small numbers of scans.

        Efron and Tibshirani 1993, ch. 11; all that is resampled is trained anew, and no scan stands twice.
        """
        blocks, mean = len(values) - 1, values[1:].mean()
        value = blocks * values[0] - (blocks - 1) * mean
        quantile = stdtrit(blocks - 1, (1 + LEVEL) / 2)
        error = math.sqrt((blocks - 1) * np.mean((values[1:] - mean) ** 2)) * quantile
        return Interval(float(value), float(value - error), float(value + error))


def observe(image: Observed, output: Observed) -> Detected:
    """Return what an observer detects who is trained on one half of the scans and tested on the other, and the reverse.

    The template is K^-1 times the mean difference that the signal makes, with K the covariance within places and classes:
    signal and background are known exactly. Detectability is the mean difference of what the template gives with and without the
    signal in the scans of the test, over the root of its mean variance in both classes. A block is a place, or some scans where
    places are few.

    Args:
        image: channels of the images.
        output: channels of f of them, in the same noise.
    """
    places, groups = (torch.arange(length) for length in image.present.shape[:2])
    if len(places) >= BLOCKS // 2:
        chosen = [(places[places != one], groups) for one in (-1, *places)]
    else:
        # As much of both halves.
        block = groups // 2 % BLOCKS
        chosen = [(places, groups[block != one]) for one in (-1, *block.unique())]
    return Detected(*(np.array([_detectability(seen, *some) for some in chosen]) for seen in (image, output)))


def _detectability(seen: Observed, places: Tensor, groups: Tensor) -> float:
    """Return the detectability at some places in some groups of scans; halves are every other group."""
    halves = [seen.of(places, groups[groups % 2 == odd]) for odd in range(2)]
    gap = variance = 0.0
    for trained, tested in (halves, reversed(halves)):
        known = trained.covariance()
        # No more than rounding where channels are independent, and no division by 0 where f is constant.
        known = known + known.diagonal().mean().clamp(min=1e-20) * 1e-10 * torch.eye(
            CHANNELS, dtype=known.dtype
        )
        template = torch.linalg.solve(known, trained.difference())
        gap += float(template @ tested.difference())
        variance += float(template @ tested.covariance() @ template)
    return gap / math.sqrt(2 * variance) if variance > 0 else 0.0
