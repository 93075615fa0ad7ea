"""A device that is not there, played by the CPU: what mixes devices, or asks for what the device has not, fails as on the real one.

Tensors that are said to be on it lie in main memory, and a mark on their storage says so. `tensor.device` tells it, operations on
tensors of two devices raise, and on "mps" everything in float64 does. What passes here moves all that it must; how fast it
is, and how the real device rounds, this does not tell. Only the thread that enters it is watched.
"""

import contextlib
import weakref
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

CPU = torch.device("cpu")
aten = torch.ops.aten
COPIES = {aten._to_copy.default, aten.copy_.default, aten._foreach_copy_.default}
# A tensor on the device may be indexed by one on the CPU, not the other way round.
INDEXED = {
    aten.index.Tensor,
    aten.index_put.default,
    aten.index_put_.default,
    aten._index_put_impl_.default,
}
PLACES = (Tensor.is_cuda.__get__, Tensor.is_mps.__get__, Tensor.is_cpu.__get__)


class _Marks:
    """Which storages are on the device."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._known: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    def of(self, tensor: Tensor) -> torch.device:
        storage = _storage(tensor)
        return CPU if storage is None or storage._cdata not in self._known else self.device

    def put(self, tensor: Tensor, device: torch.device) -> None:
        storage = _storage(tensor)
        if storage is None:
            return
        key = storage._cdata
        if device.type == "cpu":
            self._known.pop(key, None)
        elif key not in self._known:
            self._known[key] = weakref.ref(storage, lambda _: self._known.pop(key, None))

    def check(self, dtype: torch.dtype | None, what: object) -> None:
        if self.device.type == "mps" and dtype == torch.float64:
            raise TypeError(f"{what}: there is no float64 on {self.device}")


def _storage(tensor: Tensor) -> torch.UntypedStorage | None:
    while torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        tensor = torch._C._functorch.get_unwrapped(tensor)
    if tensor.layout is not torch.strided or type(tensor) not in (Tensor, torch.nn.Parameter):
        return None
    return tensor.untyped_storage()


def _tensors(tree: object) -> list[Tensor]:
    """Return the tensors among arguments or results; torch's own way through a tree is many times slower."""
    if isinstance(tree, Tensor):
        return [tree]
    if isinstance(tree, dict):
        tree = tree.values()
    elif not isinstance(tree, tuple | list):
        return []
    return [tensor for branch in tree for tensor in _tensors(branch)]


def _neutral(tensor: Tensor) -> bool:
    """Scalars go everywhere; zeros that stand for a derivative that is not there are made by torch, where it finds the storage."""
    return tensor.dim() == 0 or not bool(tensor.any())


class _Below(TorchDispatchMode):
    """Marks what comes out of operations, and refuses those that mix."""

    def __init__(self, marks: _Marks) -> None:
        super().__init__()
        self.marks = marks

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        tensors = _tensors((args, kwargs))
        with torch._C.DisableTorchFunction():
            if any(tensor.device.type != "cpu" for tensor in tensors):  # traced, without numbers
                return func(*args, **kwargs)
            there = [self.marks.of(tensor).type != "cpu" for tensor in tensors]
            on_device = there[0] if there and func in COPIES | INDEXED else any(there)
            if self._mixed(func, tensors, there):
                shapes = [(tuple(tensor.shape), there[k]) for k, tensor in enumerate(tensors)]
                raise RuntimeError(
                    f"{func}: tensors on {self.marks.device} and on cpu; shapes, and whether on it: {shapes}"
                )
            result = func(*args, **kwargs)
            for out in _tensors(result) if on_device else ():
                self.marks.check(out.dtype, func)
                self.marks.put(out, self.marks.device)
        return result

    @staticmethod
    def _mixed(func: Any, tensors: list[Tensor], there: list[bool]) -> bool:
        if func in COPIES or not any(there) or all(there):
            return False
        if func in INDEXED:
            return not there[0]
        real = {is_there for tensor, is_there in zip(tensors, there, strict=True) if not _neutral(tensor)}
        return real == {True, False} or (real == {False} and any(there))


class _Above(TorchFunctionMode):
    """Answers where a tensor is, and moves it."""

    def __init__(self, marks: _Marks) -> None:
        super().__init__()
        self.marks = marks

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func == Tensor.device.__get__:
            found = func(*args)
            return self.marks.of(args[0]) if found.type == "cpu" else found
        if func in PLACES:
            return self.marks.of(args[0]).type == ("cuda", "mps", "cpu")[PLACES.index(func)]
        if func in (Tensor.numpy, Tensor.__array__) and self.marks.of(args[0]).type != "cpu":
            raise TypeError(f"a tensor on {self.marks.device} cannot become an array; use tensor.cpu() first")
        if func is Tensor.pin_memory:
            return args[0]
        if func is Tensor.cpu:
            return self._moved(args[0], CPU, lambda tensor: tensor)
        if func is Tensor.to:
            return self._to(*args, **kwargs)
        self._check_generator(func, args, kwargs)
        device = None if kwargs.get("device") is None else torch.device(kwargs["device"])
        if device is None or device.type not in ("cpu", self.marks.device.type):
            return func(*args, **kwargs)
        if device.type != "cpu":
            self.marks.check(kwargs.get("dtype"), func)
        if func in (torch.as_tensor, torch.asarray) and isinstance(args[0], Tensor):
            return self._to(*args, **kwargs)
        result = func(*args, **{**kwargs, "device": CPU})
        for out in _tensors(result):
            self.marks.put(out, device)
        return result

    def _check_generator(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        source, device = kwargs.get("generator"), kwargs.get("device")
        if source is None or (device is None and not (args and isinstance(args[0], Tensor))):
            return
        where = self.marks.of(args[0]) if device is None else torch.device(device)
        if where.type != source.device.type:
            raise RuntimeError(f"{func}: a generator on {source.device} for a tensor on {where}")

    def _to(self, tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        device = kwargs.pop("device", None)
        dtype = kwargs.pop("dtype", None)
        for value in (*args, kwargs.pop("other", None)):
            if isinstance(value, Tensor):
                device, dtype = self.marks.of(value), value.dtype
            elif isinstance(value, torch.dtype):
                dtype = value
            elif isinstance(value, str | torch.device):
                device = value
        target = self.marks.of(tensor) if device is None else torch.device(device)
        if target.type != "cpu":
            self.marks.check(dtype or tensor.dtype, "Tensor.to")
        rest = {**kwargs, "dtype": dtype}
        return self._moved(tensor, target, lambda tensor: Tensor.to(tensor, **rest))

    def _moved(self, tensor: Tensor, device: torch.device, convert: Callable[[Tensor], Tensor]) -> Tensor:
        target = CPU if device.type == "cpu" else self.marks.device
        if self.marks.of(tensor) == target:
            return convert(tensor)
        # Conversion first happens where the numbers go, or float64 from the CPU would not reach "mps".
        moved = tensor.clone()
        self.marks.put(moved, CPU)
        moved = convert(moved)
        self.marks.put(moved, target)
        return moved


@contextlib.contextmanager
def device_double(name: str) -> Iterator[torch.device]:
    """Let the CPU play the device `name`, "mps" or "cuda", for what this thread does within."""
    marks = _Marks(torch.device(name, 0))

    class Source(torch.Generator):
        """A generator that says that it is on the device."""

        def __new__(cls, device: torch.device | str = "cpu") -> "Source":
            made = super().__new__(cls)
            made.place = marks.device if torch.device(device).type == name else CPU
            return made

        @property
        def device(self) -> torch.device:
            return self.place

    answers: dict[tuple[Any, str], Any] = {
        "mps": {(torch.backends.mps, "is_available"): True},
        "cuda": {
            (torch.cuda, "is_available"): True,
            (torch.cuda, "device_count"): 1,
            (torch.cuda, "manual_seed"): None,
            (torch.cuda, "get_rng_state"): torch.zeros(1, dtype=torch.uint8),
            (torch.cuda, "set_rng_state"): None,
            (torch.cuda, "mem_get_info"): (2**33, 2**33),
        },
    }[name]
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(torch, "Generator", Source))
        # Timing what only seems to be a GPU tells nothing.
        stack.enter_context(mock.patch("invkit.training.folder.faster_precision", return_value="float32"))
        # Batches that are made ahead are made in another thread.
        stack.enter_context(mock.patch("invkit.training.feed._Ahead", return_value=None))
        for (owner, function), answer in answers.items():
            stack.enter_context(mock.patch.object(owner, function, return_value=answer))
        stack.enter_context(_Above(marks))
        stack.enter_context(_Below(marks))
        yield marks.device
