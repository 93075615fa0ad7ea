"""How much memory a computation takes at its peak, measured on a small input by counting its tensors."""

__all__ = ["peak_bytes"]

import gc
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


# Torch gives the class below, and references to storages, no types: hence what mypy is told to ignore.
class _Ledger(TorchDispatchMode):
    """Adds up the storages that the operations under it have made and that are still in use."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Torch's own switch: otherwise the first operation imports torch's compiler, for seconds and with tensors in its frames.
        return False

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak: int = 0
        self._live: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                storage = leaf.untyped_storage()
                reference = StorageWeakRef(storage)
                self._live.setdefault(reference.cdata, (reference, storage.nbytes()))
        self._live = {key: held for key, held in self._live.items() if not held[0].expired()}
        self.peak = max(self.peak, sum(size for _, size in self._live.values()))
        return result


def peak_bytes(compute: Callable[[], object]) -> int:
    """Run `compute` and return the most bytes that tensors made by it took at a time.

    Inputs that operations return as they are count too; memory that an operation takes within itself and gives back does not.
    Tensors in reference cycles count to the end: when Python collects them is chance.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        with _Ledger() as ledger:
            compute()
    finally:
        if collects:
            gc.enable()
    peak: int = ledger.peak
    return peak
