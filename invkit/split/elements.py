"""Tensors inside what a module or function returns: tuples, lists, dicts and dataclasses, nested in any way."""

__all__ = ["Element", "pick", "put", "tensors_in"]

import contextlib
import copy
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from invkit.errors import SplitError
from invkit.split.layers import Element, ResolvedLayer


def pick(output: Any, layer: ResolvedLayer) -> Tensor:
    """Return the tensor that a layer names in an output.

    Raises:
        SplitError: the output, or the named element of it, is not one floating tensor; the message lists
            the elements.
    """
    value, place = output, layer.place
    for step, key in _steps(output, layer):
        value, place = step, f"{place}{_joined(key)}"
    if not isinstance(value, Tensor):
        ways = _elements(value, place)
        raise SplitError(
            f"layer {layer.text!r} gives {_kind(value)}, but z must be one tensor. "
            + (f"Choose one of its elements: {ways}" if ways else "Choose a layer that gives a tensor")
        )
    if not value.is_floating_point():
        raise SplitError(f"layer {layer.text!r} gives {_kind(value)}, but z must be floating-point")
    return value


def put(output: Any, layer: ResolvedLayer, value: Tensor) -> Any:
    """Return an output with the named tensor replaced by a clone of `value`.

    Raises:
        SplitError: the output has no such tensor, or one of another shape.
    """
    current = pick(output, layer)
    if current.shape != value.shape:
        raise SplitError(
            f"z of layer {layer.text!r} has shape {tuple(value.shape)}, but for this carrier the layer gives "
            f"{tuple(current.shape)}: z and carrier must come from images of the same size"
        )
    changed: Any = value.to(device=current.device, dtype=current.dtype).clone()
    steps = list(_steps(output, layer))
    around = [output, *(step for step, _ in steps)]
    for outer, (_, key) in zip(reversed(around[:-1]), reversed(steps), strict=True):
        changed = _with(outer, key, changed)
    return changed


def tensors_in(output: Any, element: Element = ()) -> Iterator[tuple[Element, Tensor]]:
    """Yield every tensor in an output with the element that names it."""
    if isinstance(output, Tensor):
        yield element, output
        return
    for key, item in _items(output):
        yield from tensors_in(item, (*element, key))


def _steps(output: Any, layer: ResolvedLayer) -> Iterator[tuple[Any, int | str]]:
    """Yield what each part of an element names, and the part; a text with dots is one key, or several one in the other."""
    value, place, left = output, layer.place, list(layer.element)
    while left:
        key = left.pop(0)
        found = None
        for head, rest in _heads(key):
            found = _get(value, head)
            if found is not None:
                key, left = head, [*rest, *left]
                break
        if found is None:
            if not list(_items(value)):
                raise SplitError(
                    f"layer {layer.text!r}: {place!r} gives {_kind(value)}, which has no element "
                    f"{key!r}, and there is no module of that name. Choose {place!r}"
                )
            raise SplitError(
                f"layer {layer.text!r}: {place!r} gives {_kind(value)} without an element "
                f"{key!r}; there are: {_elements(value, place)}"
            )
        value, place = found[0], f"{place}{_joined(key)}"
        yield value, key


def _heads(key: int | str) -> Iterator[tuple[int | str, list[int | str]]]:
    """Yield a key whole, and then its beginnings up to each dot, the longest first, with what is left."""
    yield key, []
    if isinstance(key, str):
        for dot in reversed([index for index, letter in enumerate(key) if letter == "."]):
            yield key[:dot], [key[dot + 1 :]]


def _get(value: Any, key: int | str) -> tuple[Any] | None:
    """Return an element in a tuple of its own, or `None` where there is none."""
    with contextlib.suppress(LookupError):
        if isinstance(value, Mapping):
            return (value[key],)
        if isinstance(value, tuple | list) and isinstance(key, int):
            return (value[key],)
    if isinstance(key, str) and key in _fields(value):
        return (getattr(value, key),)
    return None


def _with(value: Any, key: int | str, item: Any) -> Any:
    """Return a copy of a tuple, list, mapping or dataclass with another element."""
    if isinstance(value, tuple):
        index: Any = _fields(value).index(key) if isinstance(key, str) else key
        items = list(value)
        items[index] = item
        return type(value)._make(items) if hasattr(value, "_make") else tuple(items)
    changed: Any = copy.copy(value)
    if isinstance(value, list | Mapping):
        changed[key] = item
    else:
        object.__setattr__(changed, str(key), item)  # it may be frozen
    return changed


def _fields(value: Any) -> tuple[str, ...]:
    if isinstance(value, tuple):
        return tuple(getattr(value, "_fields", ()))
    if dataclasses.is_dataclass(value):
        return tuple(field.name for field in dataclasses.fields(value))
    return ()


def _items(value: Any) -> list[tuple[int | str, Any]]:
    """Return the elements of a value with what names each."""
    if isinstance(value, Tensor):
        return []
    if isinstance(value, Mapping):
        return [(key if isinstance(key, int) else str(key), item) for key, item in value.items()]
    fields = _fields(value)
    if fields:
        return [(name, getattr(value, name)) for name in fields]
    return list(enumerate(value)) if isinstance(value, tuple | list) else []


def _kind(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a tensor {tuple(value.shape)} of {value.dtype}"
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)}"
    return "None" if value is None else f"a {type(value).__name__}"


def _joined(key: int | str) -> str:
    return f":{key}" if isinstance(key, int) else f".{key}"


def _elements(value: Any, place: str) -> str:
    return ", ".join(f"{place}{_joined(key)} ({_kind(item)})" for key, item in _items(value))
