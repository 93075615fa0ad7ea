"""A forward pass followed operation by operation: which tensors there are, what they are called, and how long each is needed."""

__all__ = ["Followed", "Made", "follow"]

import contextlib
import functools
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from invkit.denoisers.loaded import LoadedDenoiser
from invkit.split.calls import Calls
from invkit.split.elements import tensors_in
from invkit.split.layers import Element

# Of the image these make views, padded, rescaled or joined copies: all of it is still there.
COPIES = frozenset(
    (
        "view", "_unsafe_view", "reshape", "_reshape_alias", "as_strided", "expand", "permute", "transpose", "t", "unsqueeze",
        "squeeze", "slice", "select", "alias", "detach", "clone", "copy", "_to_copy", "lift_fresh", "constant_pad_nd",
        "reflection_pad1d", "reflection_pad2d", "reflection_pad3d", "replication_pad2d", "cat", "stack", "repeat", "unbind",
        "split", "split_with_sizes", "unfold", "im2col", "flip", "roll", "add", "sub", "rsub", "mul", "div", "neg",
        "native_batch_norm", "_native_batch_norm_legit_no_training",
    )
)  # fmt: skip
# These make tensors of the size of another one, whose values do not count.
SIZED = re.compile(r"(ones|zeros|full|empty|rand|randn)_like|new_\w+")
LEAVING = (
    "numpy",
    "array",
    "tolist",
    "dlpack",
)  # functions whose results are no tensors, so that nothing tells where they go


@dataclass(frozen=True)
class Made:
    """What one run of a module, or one call of a function, returns: a tensor, or an element of what is no tensor.

    Args:
        module: name of the module; empty for a function.
        function: name of the function; empty for a module.
        call: which of its calls.
        element: of the output; empty where that is a tensor.
        tensor: number of the tensor in `Followed`.
        time: from when on it exists.
        shape: of it, with the batch.
        floating: whether it holds floating numbers.
        inside: whether a function was called by one of torch's own modules, which has a name itself.
    """

    module: str
    function: str
    call: int
    element: Element
    tensor: int
    time: int
    shape: tuple[int, ...]
    floating: bool
    inside: bool = False


@dataclass
class _State:
    """What is known of a tensor: since when it depends on the image, if it is a copy of it, and when it is read and written."""

    since: int | None
    copy: bool
    read: int = -1  # for the last time
    written: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Followed:
    """A forward pass.

    Args:
        made: what has a name, in the order of the pass.
        runs: how often each module runs.
        tensors: for each, since when it depends on the image (`None`: never), until when it is needed, whether it is a copy of the
            image, and when it was written to in place.
        lost: why it could not be followed to the end; empty where it could.
    """

    made: tuple[Made, ...]
    runs: dict[str, int]
    tensors: tuple[_State, ...]
    lost: str = ""

    def of_image(self, one: Made) -> bool:
        """Return whether what was made depended on the image when it was."""
        since = self.tensors[one.tensor].since
        return since is not None and since <= one.time

    def live(self) -> Iterator[tuple[int, frozenset[int]]]:
        """Yield, for each time at which something named was made, what depends on the image and is still needed after it."""
        begins = sorted((one.since, index) for index, one in enumerate(self.tensors) if one.since is not None)
        now: set[int] = set()
        for time in sorted({one.time for one in self.made}):
            while begins and begins[0][0] <= time:
                now.add(begins.pop(0)[1])
            now = {index for index in now if self.tensors[index].read > time}
            yield time, frozenset(now)


class _Operations(TorchDispatchMode):
    """Keeps, for every operation, which tensors it reads, writes and makes."""

    def __init__(self, image: Tensor, known: Iterable[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.time = 0
        self.states: list[_State] = []
        self.lost = ""
        self._kept: list[Tensor] = []  # so that no number of an object and no memory is used twice
        self._numbers: dict[int, int] = {}
        self._sharing: dict[int, list[int]] = {}
        self.strangers: list[Tensor] = []  # that no operation made: constants, or what was made out of sight
        for tensor in (image, *known):
            self.number(tensor)
        self.states[0] = _State(0, True)
        self.strangers.clear()

    def number(self, tensor: Tensor, *, made: bool = False) -> int:
        """Return the number of a tensor; a new one for what was not met before, which then does not depend on the image.

        Args:
            tensor: any.
            made: whether it comes from an operation that was seen.
        """
        if id(tensor) not in self._numbers:
            if not made:
                self.strangers.append(tensor)
            self._numbers[id(tensor)] = len(self.states)
            self._sharing.setdefault(_memory(tensor), []).append(len(self.states))
            self.states.append(_State(None, False))
            self._kept.append(tensor)
        return self._numbers[id(tensor)]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Follow one operation."""
        kwargs = kwargs or {}
        read = [self.number(one) for one in tree_leaves((args, kwargs)) if isinstance(one, Tensor)]
        name = func.__name__.partition(".")[0].removesuffix("_")
        of_image = [] if SIZED.fullmatch(name) else [i for i in read if self.states[i].since is not None]
        output = func(*args, **kwargs)
        self.time += 1
        for index in of_image:
            self.states[index].read = self.time
        results = tree_leaves(output)
        if of_image and any(isinstance(one, bool | int | float) for one in results):
            self.lost = f"{name.strip('_')} takes a number out of a tensor"
        copy = name in COPIES and all(self.states[index].copy for index in of_image)
        copy = copy and (name not in ("mul", "div") or len(of_image) == 1)
        for tensor in (one for one in results if isinstance(one, Tensor)):
            if id(tensor) not in self._numbers:
                index = self.number(tensor, made=True)
                if of_image:
                    self.states[index] = _State(self.time, copy)
        for tensor in _written(func, args, kwargs):
            self._write(tensor, bool(of_image), copy)
        return output

    def _write(self, tensor: Tensor, of_image: bool, copy: bool) -> None:
        """Note that a tensor, and with it whatever shares its memory, has other values now."""
        for index in self._sharing[_memory(tensor)]:
            state = self.states[index]
            state.written.append(self.time)
            state.copy = state.copy and copy
            if of_image and state.since is None:
                state.since = self.time


def _memory(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _written(func: Any, args: Any, kwargs: Any) -> Iterator[Tensor]:
    """Yield the arguments that an operation writes to."""
    for position, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            given = args[position] if position < len(args) else kwargs.get(argument.name)
            yield from (one for one in tree_leaves(given) if isinstance(one, Tensor))


@torch.no_grad()
def follow(denoiser: LoadedDenoiser, x_hu: Tensor) -> Followed:
    """Run a network once and return what it made of images on the way.

    Every output is handed on as a view of its own, so that it can be told from the same tensor under another name. Where tensors
    are met that no operation made, a second pass with another image tells whether they are constants.

    Args:
        denoiser: its network is left as it is.
        x_hu: images, shape `(B, 1, H, W)`, HU.

    Raises:
        DenoiserError: the network breaks its contract.
    """
    followed, strangers = _pass(denoiser, x_hu)
    if followed.lost or not strangers:
        return followed
    _, others = _pass(denoiser, x_hu.flip(-1) - 1)
    same = len(strangers) == len(others) and all(
        one.shape == other.shape and torch.equal(one, other)
        for one, other in zip(strangers, others, strict=True)
    )
    return (
        followed
        if same
        else replace(followed, lost="tensors of the image come from where no operation is seen")
    )


def _pass(denoiser: LoadedDenoiser, x_hu: Tensor) -> tuple[Followed, list[Tensor]]:
    """Return a forward pass as `follow` does, and the tensors that no operation made."""
    prepared, network = denoiser.prepare(x_hu), denoiser.network
    operations, made = _Operations(prepared, (*network.parameters(), *network.buffers())), list[Made]()
    runs: Counter[str] = Counter()
    within: list[nn.Module] = []

    def named(module: str, function: str, call: int, output: Any, inside: bool) -> Any:
        output = calls.unseen(functools.partial(tree_map_only, Tensor, _view, output))
        for element, tensor in tensors_in(output):
            index = operations.number(tensor)
            kind = (tuple(tensor.shape), tensor.is_floating_point(), inside)
            made.append(Made(module, function, call, element, index, operations.time, *kind))
        return output

    def called(name: str, number: int, output: Any) -> Any:
        inside = bool(within) and type(within[-1]).__module__.startswith("torch.")
        return named("", name, number, output, inside)

    def enter(module: nn.Module, *_: object) -> None:
        within.append(module)

    def leave(module: nn.Module, given: object, output: Any, *, name: str) -> Any:
        within.pop()
        runs[name] += 1
        return named(name, "", runs[name], output, False)

    calls = Calls(called)
    with contextlib.ExitStack() as stack:
        for name, module in network.named_modules():
            if name and not name.endswith("_orig_mod"):  # which runs within what torch.compile puts around it
                clean = ".".join(part for part in name.split(".") if part != "_orig_mod")
                stack.callback(module.register_forward_pre_hook(enter).remove)
                stack.callback(module.register_forward_hook(functools.partial(leave, name=clean)).remove)
        stack.enter_context(operations)
        stack.enter_context(calls.within(network))
        out = denoiser.run(prepared)
    last = operations.states[operations.number(out)]
    last.read = operations.time + 1
    left = [name for name in LEAVING if calls.counted[name]]
    lost = operations.lost or (f"{left[0]} takes numbers out of a tensor" if left else "")
    if last.since is None:
        lost = lost or "no operation is seen that connects the output with the image, as inside TorchScript"
    return Followed(tuple(made), dict(runs), tuple(operations.states), lost), operations.strangers


def _view(tensor: Tensor) -> Tensor:
    return tensor.view_as(tensor) if tensor.layout == torch.strided else tensor
