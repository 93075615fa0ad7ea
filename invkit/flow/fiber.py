"""The fiber term of a flow's training: samples should have the activation that they were conditioned on."""

__all__ = ["FiberErrors", "FiberTerm"]

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from invkit.flow.cinn import CINN
from invkit.training.engine import Shard
from invkit.training.seeds import generator

FiberErrors = Callable[[Tensor, Sequence[int]], Tensor]
"""From codes `(n, d)` and the indices of the table's rows that they were drawn for to their errors `(n,)`, differentiable."""


class FiberTerm:
    """|Phi(D(t^-1(v | z))) - z| / s_Phi, averaged over v ~ N(0, 1) and rows (Rousselot et al., arXiv 2603.21782).

    The likelihood asks where codes lie, this where samples lie in the layer's own eyes. The flow knows nothing of images: what
    turns a code into an error is given.

    Args:
        train: errors of codes for rows of the training table.
        held_out: the same for rows of the held-out table.
        rows: rows in a step, the first of its batch; and held-out rows that are looked at.
        seed: of v.
    """

    def __init__(self, train: FiberErrors, held_out: FiberErrors, *, rows: int, seed: int) -> None:
        self.train, self.held_out, self.rows, self.seed = train, held_out, rows, seed

    def of_step(self, cinn: CINN, condition: Tensor, rows: Sequence[int], step: int, shard: Shard) -> Tensor:
        """Return this process's part of the mean error of a step's samples, with gradient: the mean over processes is that.

        Args:
            cinn: the flow.
            condition: of the whole batch, `(B, ...)`.
            rows: indices of the batch's rows in the training table.
            step: number of the step; v depends on seed and step alone.
            shard: which process of how many.
        """
        count = min(self.rows, len(rows))
        part = slice(shard.rank, None, shard.world)
        v = torch.randn(count, cinn.config.d, generator=generator(self.seed, "fiber", step))[part]
        if len(v) == 0:
            return condition.new_zeros(())
        own = condition[:count][part]
        errors = self.train(cinn.sample(own, v.to(condition)), list(rows[:count])[part])
        return errors.sum() * (shard.world / count)

    @torch.no_grad()
    def of_held_out(self, cinn: CINN, condition: Tensor) -> float:
        """Return the mean error of one sample for each of the first held-out rows; always of the same v."""
        count = min(self.rows, len(condition))
        v = torch.randn(count, cinn.config.d, generator=generator(self.seed, "fiber, held out"))
        codes = cinn.sample(condition[:count], v.to(condition))
        return float(self.held_out(codes, range(count)).mean())
