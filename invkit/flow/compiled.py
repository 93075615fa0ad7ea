"""Drawing with a flow whose inverse is compiled by `torch.compile`: for who asks for it, and never required."""

__all__ = ["CompiledInverse", "compile_inverse"]

import warnings
from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

from invkit.flow.cinn import CINN

Inverse = Callable[[CINN, Tensor, Tensor], Tensor]


def compile_inverse(cinn: CINN) -> None:
    """Let the flow's `inverse` run compiled from now on, where several draws are asked for at once.

    Nothing is compiled before the first such call. Codes are those of the flow as it was but for rounding.
    """
    # As `nn.Module.compile` does it, in place: whoever holds the flow draws with it.
    cinn.inverse = CompiledInverse(cinn)  # type: ignore[method-assign]


class CompiledInverse:
    """`cinn.inverse`, compiled; as it is where the compiler is missing or fails, with a warning.

    On CUDA the kernels of a call are recorded and replayed as one CUDA graph (`mode="reduce-overhead"`). Each shape of v is
    compiled for itself, so a single draw, a call that keeps gradients, and one whose operations are watched run as before.

    Args:
        cinn: the flow. Flows of the same sizes share what is compiled.
    """

    def __init__(self, cinn: CINN) -> None:
        self.cinn = cinn
        self.failed = False

    def __call__(self, v: Tensor, h: Tensor) -> Tensor:
        """Map v `(N, B, d)` back to codes `(N, B, d)`, given h `(B, k)`."""
        if self.failed or v.ndim != 3 or len(v) == 1 or torch.is_grad_enabled() or _watched():
            return CINN.inverse(self.cinn, v, h)
        try:
            codes = _compiled(v.device.type)(self.cinn, v, h)
        except Exception as error:
            codes = CINN.inverse(self.cinn, v, h)  # raises where it was not the compiler's fault
            self.failed = True
            warnings.warn(
                f"the flow could not be compiled ({type(error).__name__}), so draws are made without: their codes are the same but "
                "for rounding. torch.compile needs a C++ compiler on a CPU and Triton on a GPU, and takes no coupling networks in "
                "bf16 on a CPU",
                stacklevel=2,
            )
            return codes
        # The next replay of a CUDA graph writes where this one did.
        return codes.clone() if v.is_cuda else codes


@lru_cache(maxsize=1)
def _compiled(kind: str) -> Inverse:
    """Return the inverse of any flow, compiled for a kind of device; torch's compiler is not imported before."""
    compiled: Inverse = torch.compile(
        CINN.inverse, dynamic=False, mode="reduce-overhead" if kind == "cuda" else None
    )
    return compiled


def _watched() -> bool:
    """Return whether something counts the operations, which compiled code does not show."""
    return torch._C._len_torch_dispatch_stack() > 0
