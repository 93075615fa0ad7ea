"""Python objects as networks: modules, classes, functions that make one, functions of images."""

__all__ = ["from_callable", "from_import", "needs_image"]

import functools
import hashlib
import importlib
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from invkit.denoisers.formats.found import Found
from invkit.denoisers.formats.opaque import Opaque
from invkit.errors import DenoiserError, UsageError, described
from invkit.training.seeds import seeded

SIDE = 64  # pixels a side of the image that a function is tried on


def from_import(reference: str) -> Any:
    """Return what `module.path:name` stands for.

    Raises:
        UsageError: there is no such module, or no such name in it.
    """
    module, _, name = reference.partition(":")
    try:
        found: Any = importlib.import_module(module)
    except (Exception, SystemExit) as error:
        raise UsageError(
            f"{module!r} of --model {reference} cannot be imported: {described(error)}"
        ) from None
    for part in name.split("."):
        if not hasattr(found, part):
            public = ", ".join(one for one in vars(found) if not one.startswith("_")) or "nothing"
            raise UsageError(f"{module} has no {name!r}; it has: {public[:300]}")
        found = getattr(found, part)
    return found


def from_callable(thing: Callable[..., Any], name: str) -> Found:
    """Return a network that a class or function makes, or a function of images as one without layers.

    A function that can be called without arguments makes a network. One that takes an image takes tensors, `(B, 1, H, W)`, or
    NumPy arrays, `(H, W)`, which is found by trying.

    Raises:
        DenoiserError: it fails, or gives neither.
    """
    if needs_image(thing):
        return Found(Opaque(thing, _identity(thing), arrays=_takes_arrays(thing, name)))
    try:
        network = seeded(thing, 0)
    except (Exception, SystemExit) as error:
        raise DenoiserError(f"{name}() failed: {described(error)}") from error
    if isinstance(network, nn.Module):
        return Found(network.float().eval().requires_grad_(False))
    if callable(network) and needs_image(network):
        return Found(Opaque(network, _identity(network), arrays=_takes_arrays(network, name)))
    raise DenoiserError(
        f"{name}() must return an nn.Module or a function of images, got {type(network).__name__}"
    )


def needs_image(thing: Callable[..., Any]) -> bool:
    """Return whether a function has an argument without default, so that it cannot be one that makes a network."""
    if inspect.isclass(thing):
        return False
    try:
        parameters = inspect.signature(thing).parameters.values()
    except (TypeError, ValueError):
        return True
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return any(one.default is inspect.Parameter.empty and one.kind in positional for one in parameters)


def _takes_arrays(function: Callable[..., Any], name: str) -> bool:
    """Return whether a function takes arrays of one image in place of tensors."""
    image = torch.full((1, 1, SIDE, SIDE), 40.0) + torch.arange(SIDE)
    try:
        with torch.no_grad():
            if isinstance(function(image.clone()), Tensor):
                return False
    except Exception as error:
        first: Exception | None = error
    else:
        first = None
    try:
        out = np.asarray(function(image[0, 0].numpy().copy()))
    except Exception as error:
        told = "" if first is None else f"; of a tensor {tuple(image.shape)}: {described(first)}"
        raise DenoiserError(
            f"{name} fails on an array of {SIDE} x {SIDE} pixels: {described(error)}{told}"
        ) from error
    if out.shape != (SIDE, SIDE):
        raise DenoiserError(
            f"{name} must return an image of the shape that it is given: of {(SIDE, SIDE)} it gave {out.shape}"
        )
    return True


def _identity(function: Callable[..., Any]) -> str:
    """Return the sha256 of a function's code and of what is bound to it, as far as Python knows them."""
    if isinstance(function, functools.partial):
        bound = repr((function.args, sorted(function.keywords.items())))
        return hashlib.sha256(f"{_identity(function.func)}|{bound}".encode()).hexdigest()
    try:
        text = inspect.getsource(function)
    except (OSError, TypeError):
        text = f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', type(function).__qualname__)}"
    code = getattr(function, "__code__", None)
    cells = [cell.cell_contents for cell in getattr(function, "__closure__", None) or ()]
    return hashlib.sha256(f"{text}|{code.co_code.hex() if code else ''}|{cells!r}".encode()).hexdigest()
