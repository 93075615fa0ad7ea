"""Can a classifier tell two samples apart? If not, they may come from one distribution."""

__all__ = ["C2stCheck", "Guesses", "check_c2st", "run_c2st"]

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from invkit.errors import InputError
from invkit.statistics.intervals import Interval, bootstrap
from invkit.training.seeds import generator

STEPS = 60  # of L-BFGS
MLP_STEPS = 300  # of Adam
PENALTY = 1e-2  # on the squared weights, times a half


@dataclass(frozen=True)
class Guesses:
    """Which held-out rows a classifier got right.

    Args:
        correct: shape `(n, 2)`: row i of the first sample, row i of the second.
        pairs: what each row of `correct` belongs to; rows of one label were never on both sides of a fold.
    """

    correct: NDArray[np.bool_]
    pairs: tuple[Any, ...]


@dataclass(frozen=True)
class C2stCheck:
    """How often a classifier is right; 0.5 is chance.

    Args:
        accuracy: with its interval over pairs or groups.
    """

    accuracy: Interval

    @property
    def holds(self) -> bool:
        """Whether the classifier is not better than chance beyond its interval."""
        return self.accuracy.low <= 0.5

    def to_json(self) -> dict[str, Any]:
        """Return the verdict as JSON values."""
        return {"holds": self.holds, "accuracy": self.accuracy.to_json()}


def run_c2st(
    first: Tensor | ArrayLike,
    second: Tensor | ArrayLike,
    groups: Sequence[Any] | None = None,
    *,
    hidden: int = 0,
    folds: int = 5,
    seed: int = 0,
) -> Guesses:
    """Train a classifier on four fifths of two samples and let it guess the rest, in turn (Lopez-Paz, Oquab 2017).

    t = 1/n_te sum over held-out rows of 1[ 1(f(x) > 1/2) = label ] (ICLR 2017, arXiv 1610.06545); 1/2 if both are of
    one distribution. Row i of one sample and row i of the other belong together (a truth and a sample for the same z), and
    stay in the same fold, since a classifier that knows one of them would guess the other wrong.

    Args:
        first: shape `(n, d)`; where the samples depend on z, with what stands for z as further columns.
        second: shape `(n, d)`.
        groups: labels of the n pairs (patients), kept in one fold.
        hidden: width of a perceptron with one hidden layer; 0 for logistic regression on the columns and their squares,
            which sees shifts and wrong variances and needs fewer rows.
        folds: how many.
        seed: of folds and weights.

    Raises:
        InputError: shapes that do not match, numbers that are not finite, or fewer groups than folds.
    """
    a, b = (
        torch.as_tensor(np.asarray(data), dtype=torch.float64) for data in (_numpy(first), _numpy(second))
    )
    if a.ndim != 2 or a.shape != b.shape or not a.numel():
        raise InputError(
            f"both samples must have the same shape (n, d), got {tuple(a.shape)}, {tuple(b.shape)}"
        )
    if not bool(a.isfinite().all() and b.isfinite().all()):
        raise InputError("a sample is not finite; check the flow and the encoder that made it")
    labels = tuple(range(len(a))) if groups is None else tuple(groups)
    if len(labels) != len(a):
        raise InputError(f"got {len(labels)} group labels for {len(a)} pairs; give one to each")
    numbers = {label: number for number, label in enumerate(dict.fromkeys(labels))}
    if folds < 2 or len(numbers) < folds:
        raise InputError(f"{folds} folds need as many groups of pairs, and at least 2; got {len(numbers)}")
    order = torch.randperm(len(numbers), generator=generator(seed, "folds"))
    fold = (order % folds)[torch.tensor([numbers[label] for label in labels])]
    correct = torch.empty(len(a), 2, dtype=torch.bool)
    for number in range(folds):
        held = fold == number
        known = torch.cat([a[~held], b[~held]])
        mean, deviation = known.mean(0), known.std(0)
        deviation = deviation.masked_fill(deviation == 0, 1.0)
        rows, first_held, second_held = ((data - mean) / deviation for data in (known, a[held], b[held]))
        target = torch.cat([torch.zeros(int((~held).sum())), torch.ones(int((~held).sum()))]).double()
        logit = (
            _perceptron(rows, target, hidden, generator(seed, "weights", number))
            if hidden
            else _logistic(rows, target)
        )
        correct[held] = torch.stack([logit(first_held) < 0, logit(second_held) > 0], dim=1)
    return Guesses(correct.numpy(), labels)


def check_c2st(guesses: Guesses, *, level: float = 0.95, seed: int = 0, draws: int = 2000) -> C2stCheck:
    """Return the accuracy with its bootstrap interval over pairs or groups, and whether it is above chance.

    Args:
        guesses: of `run_c2st`.
        level: of the interval.
        seed: of the resampling.
        draws: bootstrap samples.
    """
    means = guesses.correct.mean(axis=1)
    return C2stCheck(bootstrap(means, groups=guesses.pairs, seed=seed, draws=draws, level=level))


def _numpy(data: Tensor | ArrayLike) -> NDArray[Any]:
    return np.asarray(data.detach().cpu() if isinstance(data, Tensor) else data)


class _Logit:
    """A classifier's logit: weights, and the features of a row."""

    def __init__(self, weights: Sequence[Tensor], *, squares: bool) -> None:
        self.weights, self.squares = [weight.requires_grad_() for weight in weights], squares

    def __call__(self, rows: Tensor) -> Tensor:
        x = torch.cat([rows, (rows.square() - 1) / 2**0.5], dim=1) if self.squares else rows
        for weight in self.weights[:-1]:
            x = torch.relu(_with_one(x) @ weight)
        return _with_one(x) @ self.weights[-1]

    def loss(self, rows: Tensor, target: Tensor) -> Tensor:
        """Return the cross-entropy and the penalty."""
        entropy = torch.nn.functional.binary_cross_entropy_with_logits(self(rows), target)
        for weight in self.weights:
            entropy = entropy + PENALTY / 2 * weight.square().sum()
        return entropy


def _with_one(x: Tensor) -> Tensor:
    return torch.cat([x, torch.ones_like(x[:, :1])], dim=1)


@torch.enable_grad()
def _logistic(rows: Tensor, target: Tensor) -> _Logit:
    """Return logistic regression on the columns and their squares; it has one minimum."""
    logit = _Logit([torch.zeros(2 * rows.shape[1] + 1, dtype=rows.dtype)], squares=True)
    optimiser = torch.optim.LBFGS(logit.weights, max_iter=STEPS, line_search_fn="strong_wolfe")

    def closure() -> float:
        optimiser.zero_grad()
        loss = logit.loss(rows, target)
        loss.backward()
        return float(loss.detach())

    optimiser.step(closure)  # nor this
    return logit


@torch.enable_grad()
def _perceptron(rows: Tensor, target: Tensor, hidden: int, random: torch.Generator) -> _Logit:
    """Return a perceptron with one hidden layer."""
    columns = rows.shape[1] + 1
    weight = torch.randn(columns, hidden, generator=random, dtype=rows.dtype) * (2 / columns) ** 0.5
    last = torch.randn(hidden + 1, generator=random, dtype=rows.dtype) * hidden**-0.5
    logit = _Logit([weight, last], squares=False)
    optimiser = torch.optim.Adam(logit.weights, lr=1e-2)
    for _ in range(MLP_STEPS):
        optimiser.zero_grad()
        logit.loss(rows, target).backward()
        optimiser.step()
    return logit
