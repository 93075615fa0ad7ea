"""One stage of a descent onto the image that an activation came from."""

__all__ = ["MEMORY", "Stage", "Trace"]

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional

MEMORY = 2  # earlier steps that a stage sees


@dataclass
class Trace:
    """Where the descent of a batch stands, on the grid of the activation.

    Args:
        features: z, standardised, `(B, C, h, w)`.
        x: the estimate in inner units, `(B, s^2, h, w)`.
        size: height and width of the images, if they are known.
        steps: all so far, each like x.
        residual: z minus Phi of the estimate, standardised, like `features`; `None` before it was computed.
    """

    features: Tensor
    x: Tensor
    size: tuple[int, int] | None = None
    steps: list[Tensor] = field(default_factory=list)
    residual: Tensor | None = None


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

    def inputs(self, trace: Trace) -> list[Tensor]:
        """Return what the step is linear in: the residual, and the steps that are remembered, the oldest first."""
        if trace.residual is None:
            raise RuntimeError("a stage needs the residual: ask Phi first")
        return [trace.residual, *trace.steps[len(trace.steps) - self.before :]]

    def forward(self, trace: Trace) -> Tensor:
        """Return the step, `(B, outputs, h, w)`, from a descent that has asked."""
        # One convolution for each input, rather than a copy of all of them side by side.
        parts = self.inputs(trace)
        kernels = torch.split(self.conv.weight, [part.shape[1] for part in parts], dim=1)
        step = torch.as_tensor(self.conv.bias)[:, None, None]
        for part, kernel in zip(parts, kernels, strict=True):
            step = step + functional.conv2d(part, kernel, padding=self.conv.padding)
        return step
