"""Mean and standard deviation of many samples without holding them, in float64."""

__all__ = ["StreamingMoments"]

import torch
from torch import Tensor

from invkit.errors import InputError
from invkit.training.precision import in_float64


class StreamingMoments:
    """Running mean and variance over samples (Welford 1962; merging: Chan, Golub & LeVeque 1979).

    Samples are taken one after the other in float64, so the result depends on their order alone: it is
    bit-equal however they were cut into chunks. `merge` adds two runs in a fixed order, for samples that
    several processes made.

    Example:
        >>> moments = StreamingMoments()
        >>> moments.update(torch.tensor([[1.0], [2.0]]))
        >>> moments.update(torch.tensor([[6.0]]))
        >>> moments.mean.item(), round(moments.std.item(), 4)
        (3.0, 2.6458)
    """

    def __init__(self) -> None:
        self.count = 0
        self._mean: Tensor | None = None
        self._squares: Tensor | None = None

    def update(self, samples: Tensor) -> None:
        """Take further samples, shape `(n, ...)`; all but the first dimension must stay as they are.

        Raises:
            InputError: the shape changed, or a sample is not finite.
        """
        if self._mean is not None and samples.shape[1:] != self._mean.shape:
            raise InputError(
                f"samples so far have shape {tuple(self._mean.shape)}, new ones {tuple(samples.shape[1:])}"
            )
        finite = torch.isfinite(samples).flatten(1).all(1)
        # Asked once for all of them: each question waits for the device.
        if not bool(finite.all()):
            raise InputError(
                f"sample {self.count + int(finite.int().argmin())} holds values that are not finite; "
                "what drew it is faulty, or its training diverged"
            )
        for value in map(in_float64, samples.detach()):
            self.count += 1
            if self._mean is None or self._squares is None:
                self._mean, self._squares = value.clone(), torch.zeros_like(value)
                continue
            delta = value - self._mean
            self._mean += delta / self.count
            self._squares += delta * (value - self._mean)

    @property
    def mean(self) -> Tensor:
        """Mean over samples, float64, in the unit of the samples.

        Raises:
            InputError: no sample was taken.
        """
        if self._mean is None:
            raise InputError("there is no mean of no samples")
        return self._mean.clone()

    @property
    def std(self) -> Tensor:
        """Standard deviation over samples (divisor n - 1), float64, in the unit of the samples.

        Raises:
            InputError: fewer than two samples were taken.
        """
        if self._squares is None or self.count < 2:
            raise InputError(f"a standard deviation needs at least 2 samples, got {self.count}")
        return (self._squares / (self.count - 1)).sqrt()

    def merge(self, other: "StreamingMoments") -> "StreamingMoments":
        """Return the moments of this run's samples followed by the other's; both stay as they are."""
        merged = StreamingMoments()
        if self._mean is None or self._squares is None or other._mean is None or other._squares is None:
            full = self if other._mean is None else other
            merged.count = full.count
            merged._mean = None if full._mean is None else full._mean.clone()
            merged._squares = None if full._squares is None else full._squares.clone()
            return merged
        if self._mean.shape != other._mean.shape:
            raise InputError(
                f"cannot merge moments of shape {tuple(self._mean.shape)} and {tuple(other._mean.shape)}"
            )
        merged.count = self.count + other.count
        delta = other._mean - self._mean
        merged._mean = self._mean + delta * (other.count / merged.count)
        merged._squares = (
            self._squares + other._squares + delta**2 * (self.count * other.count / merged.count)
        )
        return merged
