"""Linear convolutions in closed form: ridge regression of images on the neighbourhoods of features."""

__all__ = ["Moments"]

from typing import Self

import torch
from torch import Tensor
from torch.nn import functional

from invkit.training.precision import in_float64


class Moments:
    """Sums over pixels that decide the best linear convolution from features to an image, in float64.

    Args:
        channels: of the features.
        outputs: channels of the image.
        side: of the kernel, odd; beyond the edge there are zeros.
        device: where features and targets are.
    """

    def __init__(self, channels: int, outputs: int, side: int, device: torch.device | str = "cpu") -> None:
        taps = channels * side**2 + 1  # the last one is the constant
        self.channels, self.side, self.device = channels, side, torch.device(device)
        self.gram = in_float64(torch.zeros(taps, taps, device=device))
        self.cross = in_float64(torch.zeros(taps, outputs, device=device))
        self.power = 0.0

    def add(self, features: Tensor, target: Tensor) -> None:
        """Take in features `(B, channels, h, w)` and what is to be made of them, `(B, outputs, h, w)`."""
        for one, wanted in zip(features, target, strict=True):
            seen = functional.unfold(one[None], self.side, padding=self.side // 2)[0]
            seen = torch.cat([seen, torch.ones_like(seen[:1])])
            self.gram += in_float64(seen @ seen.T)
            self.cross += in_float64(seen @ wanted.flatten(1).T)
            self.power += float(in_float64(wanted).square().sum())

    def __add__(self, other: Self) -> Self:
        total = self.__class__(self.channels, self.cross.shape[1], self.side, self.device)
        total.gram, total.cross = self.gram + other.gram, self.cross + other.cross
        total.power = self.power + other.power
        return total

    def solve(self, ridge: float) -> Tensor:
        """Return the coefficients, `(taps, outputs)`, float64.

        Args:
            ridge: penalty, as a part of the mean power of a tap.
        """
        gram = self.gram.clone()
        gram.diagonal().add_(ridge * gram.diagonal().mean())
        solution: Tensor = torch.linalg.solve(gram, self.cross)
        return solution

    def loss(self, solution: Tensor) -> float:
        """Return the sum of squares that coefficients leave of the targets taken in here."""
        explained = ((self.gram @ solution - 2 * self.cross) * solution).sum()
        return self.power + float(explained)

    def kernel(self, solution: Tensor) -> tuple[Tensor, Tensor]:
        """Return coefficients as weight `(outputs, channels, side, side)` and bias `(outputs,)` of a convolution, float32."""
        found = solution.T.float().to(self.device)
        return found[:, :-1].reshape(-1, self.channels, self.side, self.side), found[:, -1]
