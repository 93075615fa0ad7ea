"""Functions that a network calls in a forward pass, counted by name: what has no module is named by order of call."""

__all__ = ["Calls"]

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from torch import nn
from torch.overrides import TorchFunctionMode

OPERATORS = ("add", "sub", "mul", "div", "truediv", "pow", "matmul")


class Calls(TorchFunctionMode):
    """Counts what torch functions a network calls in its forward pass while this is entered, and shows each call's output.

    `a + b`, `b += a`, `torch.add` and `Tensor.add_` all are calls of `add`. What a function calls in turn is not counted.

    Args:
        shown: called with name, number of the call (the first is 1) and output; what it returns takes the output's place.
    """

    def __init__(self, shown: Callable[[str, int, Any], Any]) -> None:
        super().__init__()
        self.counted: Counter[str] = Counter()
        self._shown = shown
        self._counting = False

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Count one call."""
        output = func(*args, **(kwargs or {}))
        name = _plain(getattr(func, "__name__", ""))
        if not self._counting or name in ("", "get", "set"):  # the latter read attributes such as `shape`
            return output
        self.counted[name] += 1
        return self._shown(name, self.counted[name], output)

    def unseen(self, action: Callable[[], Any]) -> Any:
        """Return what an action gives, whose calls are not the network's and do not count."""
        before, self._counting = self._counting, False
        try:
            return action()
        finally:
            self._counting = before

    @contextlib.contextmanager
    def within(self, network: nn.Module) -> Iterator[None]:
        """Enter, and count while the forward pass of a network runs; what comes before and after it is not the network's."""

        def begin(*_: object) -> None:
            self._counting = True

        def end(*_: object) -> None:
            self._counting = False

        handles = [network.register_forward_pre_hook(begin), network.register_forward_hook(end)]
        try:
            with self:
                yield
        finally:
            for handle in handles:
                handle.remove()


def _plain(name: str) -> str:
    """Return a function's name without what marks operators, reflected and in-place ones, and versions, as in `add.Tensor`."""
    name = name.partition(".")[0]
    bare = name.strip("_")
    if name.startswith("__") and bare[:1] in ("r", "i") and bare[1:] in OPERATORS:
        bare = bare[1:]
    return {"truediv": "div", "rsub": "sub"}.get(bare, bare)
