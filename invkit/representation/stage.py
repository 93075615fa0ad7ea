"""One stage of a descent onto the image that an activation came from."""

__all__ = ["MEMORY", "Stage"]

from collections.abc import Sequence

import torch
from torch import Tensor, nn

MEMORY = 2  # earlier steps that a stage sees


class Stage(nn.Module):
    """The next step of an estimate x_k, linear in what is still wrong with it and in the steps before.

    ``x_(k + 1) = x_k + R_k * (z - Phi(x_k), x_k - x_(k - 1), x_(k - 1) - x_(k - 2)) + b_k``, `*` being a convolution on the grid of
    the activation. The supervised descent of Xiong and De la Torre (*Supervised Descent Method and Its Applications to Face
    Alignment*, CVPR 2013, eq. 5), with steps that remember those before, as in the method of conjugate gradients. R_k and b_k are
    solved, not trained.

    Args:
        channels: of the standardised activation.
        outputs: channels of an image on its grid.
        before: earlier steps that it sees.
        side: of the kernel.
    """

    def __init__(self, channels: int, outputs: int, before: int, side: int) -> None:
        super().__init__()
        self.before = before
        self.conv = nn.Conv2d(channels + before * outputs, outputs, side, padding=side // 2)
        self.requires_grad_(False)

    def features(self, residual: Tensor, steps: Sequence[Tensor]) -> Tensor:
        """Return what the step is linear in.

        Args:
            residual: z minus Phi(x_k), standardised, `(B, channels, h, w)`.
            steps: all steps so far, each `(B, outputs, h, w)`.
        """
        return torch.cat([residual, *steps[len(steps) - self.before :]], dim=1)

    def forward(self, residual: Tensor, steps: Sequence[Tensor]) -> Tensor:
        """Return the step, `(B, outputs, h, w)`."""
        step: Tensor = self.conv(self.features(residual, steps))
        return step
