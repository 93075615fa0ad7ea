"""Denoisers that cannot be looked into: functions of tensors or arrays, and whatever else only takes and gives images."""

__all__ = ["Opaque"]

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


class Opaque(nn.Module):
    """A function of images as a network without layers; only `output` can be analysed.

    Args:
        function: from `(B, C, H, W)` to the same; of arrays, from one image `(H, W)` to the same.
        identity: what identifies the function, such as the sha256 of its file; it stands in the fingerprint.
        arrays: it takes and returns NumPy arrays, of one image at a time, so no gradient passes it.
        single: it takes one image at a time.
        dtype: of what it takes; by default that of the image.

    Attributes:
        differentiable: whether a gradient may pass it.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        identity: str,
        *,
        arrays: bool = False,
        single: bool = False,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.identity, self.arrays, self.single = identity, arrays, single
        self.differentiable = not arrays
        # In a tuple: a module would become a part of this one, and offer layers that run no hooks.
        self._held, self._dtype = (function,), dtype

    def __deepcopy__(self, memo: dict[int, Any]) -> "Opaque":
        """Return another module of the same function, which may hold what cannot be copied."""
        return Opaque(self._held[0], self.identity, arrays=self.arrays, single=self.single, dtype=self._dtype)

    def forward(self, x: Tensor, **arguments: Any) -> Any:
        """Return f(x), shape `(B, C, H, W)`, in the type of x."""
        given = x if self._dtype is None else x.to(self._dtype)
        if self.arrays:
            rows = [self._of_array(one, arguments) for one in given.detach().cpu().numpy()]
            return torch.from_numpy(np.stack(rows)).to(x)
        if self.single and len(given) > 1:
            return torch.cat([self._held[0](one, **arguments) for one in given.split(1)]).to(x.dtype)
        out = self._held[0](given, **arguments)
        return out.to(x.dtype) if isinstance(out, Tensor) else out

    def _of_array(self, image: np.ndarray, arguments: dict[str, Any]) -> np.ndarray:
        """Return one image, `(C, H, W)`; those of one channel are given as `(H, W)`."""
        out = np.asarray(self._held[0](image[0] if len(image) == 1 else image, **arguments))
        return out[None] if out.ndim == 2 else out
