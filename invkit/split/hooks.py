"""Forward hooks that keep or replace what a layer gives; they are gone again whatever happens."""

__all__ = ["Recording", "capture", "replace"]

import contextlib
import functools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import Tensor, nn

from invkit.errors import SplitError
from invkit.split.calls import Calls
from invkit.split.elements import pick, put
from invkit.split.layers import ResolvedLayer, named_module


class _Stop(BaseException):
    """Ends a forward pass. No `Exception`, so that a network's own `except Exception` cannot swallow it."""


@dataclass
class Recording:
    """What happened in one forward pass.

    Attributes:
        layers: that were watched.
        runs: how often each layer's module or function ran.
        values: what each layer gave at the run it names, or else its first, in memory that nothing else uses.
        functions: how often each function was called, where that was counted.
        fault: why a layer's output cannot be used, if so.
    """

    layers: Sequence[ResolvedLayer]
    runs: list[int]
    values: list[Tensor | None]
    functions: Counter[str] = field(default_factory=Counter)
    fault: SplitError | None = None

    @property
    def once(self) -> bool:
        """Whether every layer ran just once, or at least as often as the run that it names."""
        pairs = zip(self.layers, self.runs, strict=True)
        return all(runs == 1 if layer.call is None else runs >= layer.call for layer, runs in pairs)

    @property
    def over(self) -> bool:
        """Whether every layer gave what it names already."""
        pairs = zip(self.layers, self.runs, strict=True)
        return all(runs >= (layer.call or 1) for layer, runs in pairs)

    def outputs(self) -> list[Tensor]:
        """Return what every layer gave.

        Raises:
            SplitError: an output cannot be used.
        """
        if self.fault is not None:
            raise self.fault
        return [value for value in self.values if value is not None]


def capture(
    network: nn.Module, layers: Sequence[ResolvedLayer], *, stop: bool
) -> contextlib.AbstractContextManager[Recording]:
    """Return a context that keeps what the layers give in the forward pass that runs inside it.

    What is kept is a clone, since an in-place operation after the layer would change it otherwise; where the
    pass ends there, and the layer is one of torch's own that gives fresh memory, it is the output itself.

    Args:
        network: the network.
        layers: whose outputs to keep.
        stop: end the forward pass, and the context, once every layer has run.
    """

    def keep(record: Recording, index: int, call: _Call) -> None:
        over = stop and record.over
        if record.runs[index] == (layers[index].call or 1):
            value = pick(call.output, layers[index])
            record.values[index] = value if over and call.is_fresh(value) else value.clone()
        if over:
            raise _Stop

    return _watched(network, layers, keep)


def replace(
    network: nn.Module, layers: Sequence[ResolvedLayer], values: Sequence[Tensor]
) -> contextlib.AbstractContextManager[Recording]:
    """Return a context that lets the layers give other values in the forward pass that runs inside it.

    The network gets clones, because an in-place operation after the layer would change the caller's tensors.
    """

    def swap(record: Recording, index: int, call: _Call) -> Any:
        if layers[index].call not in (None, record.runs[index]):
            return None
        return put(call.output, layers[index], values[index])

    return _watched(network, layers, swap)


class _Call(NamedTuple):
    """One run of a layer's module, or of a function."""

    module: nn.Module | None
    given: tuple[Any, ...]
    output: Any

    def is_fresh(self, value: Tensor) -> bool:
        """Whether the output is certainly memory of its own: of one of torch's layers that was not tampered with.

        What hands its input through, as Identity, Flatten and in-place activations do, is not. Neither is what a
        graph may need as it is.
        """
        module = self.module
        if module is None:
            return False
        own = module._parameters  # it has no submodules where this counts, and `parameters()` takes its time
        plain = type(module).__module__.startswith("torch.nn.modules.") and not module._modules
        return (
            plain
            and len(self.given) > 0  # what is passed by keyword is not shown to a hook
            and value is self.output
            and not value.requires_grad
            and "forward" not in vars(module)
            and len(module._forward_hooks) == 1
            and all(_apart(value, other) for other in (*self.given, *own.values(), *module._buffers.values()))
        )


def _apart(value: Tensor, other: Any) -> bool:
    if other is None:
        return True
    try:
        return bool(value.untyped_storage().data_ptr() != other.untyped_storage().data_ptr())
    except (AttributeError, NotImplementedError, RuntimeError):
        # No tensor, or a wrapper of torch.func, which has no memory to look at.
        return False


@contextlib.contextmanager
def _watched(
    network: nn.Module, layers: Sequence[ResolvedLayer], act: Callable[[Recording, int, _Call], Any]
) -> Iterator[Recording]:
    record = Recording(layers, [0] * len(layers), [None] * len(layers))
    functions = [index for index, layer in enumerate(layers) if layer.function]

    def seen(index: int, call: _Call) -> Any:
        record.runs[index] += 1
        try:
            return calls.unseen(functools.partial(act, record, index, call))
        except SplitError as fault:
            # Kept, not raised: the network may catch exceptions.
            record.fault = fault
            raise _Stop from None

    def hook(module: nn.Module, given: Any, output: Any, *, index: int) -> Any:
        return seen(index, _Call(module, given, output))

    def called(name: str, number: int, output: Any) -> Any:
        for index in functions:
            if layers[index].function == name:
                changed = seen(index, _Call(None, (), output))
                output = output if changed is None else changed
        return output

    calls = Calls(called)
    record.functions = calls.counted
    handles = []
    try:
        for index, layer in enumerate(layers):
            if not layer.function:
                module = named_module(network, layer.module)
                handles.append(module.register_forward_hook(functools.partial(hook, index=index)))
        with calls.within(network) if functions else contextlib.nullcontext():
            yield record
    except _Stop:
        pass
    finally:
        for handle in handles:
            handle.remove()
