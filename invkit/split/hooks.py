"""Forward hooks that keep or replace what a layer gives; they are gone again whatever happens."""

__all__ = ["Recording", "capture", "replace"]

import contextlib
import copy
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor, nn

from invkit.errors import SplitError
from invkit.split.layers import ResolvedLayer, named_module


class _Stop(BaseException):
    """Ends a forward pass. No `Exception`, so that a network's own `except Exception` cannot swallow it."""


@dataclass
class Recording:
    """What happened in one forward pass.

    Attributes:
        runs: how often each layer's module ran.
        values: what each layer gave at its first run, in memory that nothing else uses.
        fault: why a layer's output cannot be used, if so.
    """

    runs: list[int]
    values: list[Tensor | None]
    fault: SplitError | None = None

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
        over = stop and all(record.runs)
        if record.runs[index] == 1:
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
        return put(call.output, layers[index], values[index])

    return _watched(network, layers, swap)


class _Call(NamedTuple):
    """One run of a layer's module."""

    module: nn.Module
    given: tuple[Any, ...]
    output: Any

    def is_fresh(self, value: Tensor) -> bool:
        """Whether the output is certainly memory of its own: of one of torch's layers that was not tampered with.

        What hands its input through, as Identity, Flatten and in-place activations do, is not. Neither is what a
        graph may need as it is.
        """
        module = self.module
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
    record = Recording([0] * len(layers), [None] * len(layers))

    def hook(module: nn.Module, given: Any, output: Any, *, index: int) -> Any:
        record.runs[index] += 1
        try:
            return act(record, index, _Call(module, given, output))
        except SplitError as fault:
            # Kept, not raised: the network may catch exceptions.
            record.fault = fault
            raise _Stop from None

    handles = []
    try:
        for index, layer in enumerate(layers):
            module = named_module(network, layer.module)
            handles.append(module.register_forward_hook(functools.partial(hook, index=index)))
        yield record
    except _Stop:
        pass
    finally:
        for handle in handles:
            handle.remove()


def pick(output: Any, layer: ResolvedLayer) -> Tensor:
    """Return the tensor that a layer names in a module's output.

    Raises:
        SplitError: the output, or the named element of it, is not one floating tensor; the message lists
            the elements.
    """
    value = output
    if layer.element is not None:
        if isinstance(output, Tensor) or not isinstance(output, tuple | list | Mapping):
            raise SplitError(
                f"layer {layer.text!r}: module {layer.module!r} gives {_kind(output)}, which has no element "
                f"{layer.element!r}, and there is no module of that name. Choose {layer.module!r}"
            )
        try:
            value = output[_index(output, layer.element)]
        except (LookupError, TypeError):
            raise SplitError(
                f"layer {layer.text!r}: module {layer.module!r} gives {_kind(output)} without an element "
                f"{layer.element!r}; there are: {_elements(output, layer.module)}"
            ) from None
    if not isinstance(value, Tensor):
        ways = _elements(value, layer.module) if layer.element is None else ""
        raise SplitError(
            f"layer {layer.text!r} gives {_kind(value)}, but z must be one tensor. "
            + (f"Choose one of its elements: {ways}" if ways else "Choose a layer that gives a tensor")
        )
    if not value.is_floating_point():
        raise SplitError(f"layer {layer.text!r} gives {_kind(value)}, but z must be floating-point")
    return value


def put(output: Any, layer: ResolvedLayer, value: Tensor) -> Any:
    """Return a module's output with the named tensor replaced by a clone of `value`.

    Raises:
        SplitError: the output has no such tensor, or one of another shape.
    """
    current = pick(output, layer)
    if current.shape != value.shape:
        raise SplitError(
            f"z of layer {layer.text!r} has shape {tuple(value.shape)}, but for this carrier the layer gives "
            f"{tuple(current.shape)}: z and carrier must come from images of the same size"
        )
    value = value.to(device=current.device, dtype=current.dtype).clone()
    if layer.element is None:
        return value
    index = _index(output, layer.element)
    if isinstance(output, tuple):
        items = list(output)
        items[index] = value
        return type(output)._make(items) if hasattr(output, "_make") else tuple(items)
    changed = copy.copy(output)
    changed[index] = value
    return changed


def _index(output: Any, element: int | str) -> Any:
    if isinstance(element, str) and element in getattr(output, "_fields", ()):
        return output._fields.index(element)
    return element


def _kind(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a tensor {tuple(value.shape)} of {value.dtype}"
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)}"
    return "None" if value is None else f"a {type(value).__name__}"


def _elements(value: Any, module: str) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{module}.{key} ({_kind(item)})" for key, item in value.items())
    if isinstance(value, tuple | list):
        return ", ".join(f"{module}:{index} ({_kind(item)})" for index, item in enumerate(value))
    return ""
