"""Reads which hooks a plugin implements, calls them one by one, and holds what they return to its type."""

from __future__ import annotations

__all__ = ["HOOKS", "Survey", "has_hooks", "survey"]

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import pluggy

from invkit.denoisers.spec import Denoiser
from invkit.errors import PluginError
from invkit.plugins import hookspecs
from invkit.plugins.containment import attempt
from invkit.plugins.records import Artifact, Backbone, Metric, Sampler, Section, Source
from invkit.plugins.reports import unknown

MARK = "invkit_impl"  # what pluggy's HookimplMarker("invkit") sets

# hook -> (what users call its records, type of a record, the field that must be unique)
HOOKS: Mapping[str, tuple[str, type[Any], str]] = MappingProxyType(
    {
        "invkit_denoisers": ("denoisers", Denoiser, "name"),
        "invkit_sources": ("sources", Source, "name"),
        "invkit_metrics": ("metrics", Metric, "name"),
        "invkit_report_sections": ("sections", Section, "name"),
        "invkit_artifacts": ("artifacts", Artifact, "sha256"),
        "invkit_backbones": ("backbones", Backbone, "name"),
        "invkit_samplers": ("samplers", Sampler, "name"),
    }
)


def has_hooks(thing: object) -> bool:
    """Return whether any attribute of it is marked with `hookimpl`."""
    return any(hasattr(getattr(thing, name, None), MARK) for name in dir(thing))


def hook_callers(plugin: object) -> dict[str, Callable[[], Any]]:
    """Return a plugin's functions that are marked with `hookimpl`, by hook name.

    Each plugin gets a pluggy manager of its own, so that one which fails half-way leaves nothing behind.
    """
    manager = pluggy.PluginManager("invkit")
    manager.add_hookspecs(hookspecs)
    manager.register(plugin, "plugin")
    found: dict[str, Callable[[], Any]] = {}
    for caller in manager.get_hookcallers(plugin) or ():
        for implementation in caller.get_hookimpls():
            if implementation.wrapper or implementation.hookwrapper:
                raise PluginError(f"{caller.name} is a wrapper; invkit hooks must be plain functions")
            if caller.has_spec() or not implementation.optionalhook:
                found[caller.name] = implementation.function
    return found


def unmarked_hooks(plugin: object) -> list[str]:
    """Return a complaint for every function that is called like a hook but lacks the mark."""
    return [
        f"{name} is not marked with @invkit.hookimpl"
        for name in HOOKS
        if inspect.isroutine(getattr(plugin, name, None)) and not hasattr(getattr(plugin, name), MARK)
    ]


@dataclass(frozen=True)
class Survey:
    """What was returned, what is wrong with it, and what was printed.

    Args:
        records: kind, unique key and record of each, in order.
        problems: one text each.
        printed: by the plugin.
    """

    records: tuple[tuple[str, str, Any], ...] = ()
    problems: tuple[str, ...] = ()
    printed: str = ""


def survey(plugin: object) -> Survey:
    """Call a plugin's hooks and return what is good; nothing it raises or prints gets out."""
    parsed = attempt(lambda: hook_callers(plugin))
    if parsed.value is None:
        return Survey(problems=(f"its hooks cannot be read: {parsed.error}",))
    problems, printed = unmarked_hooks(plugin), ""
    records: list[tuple[str, str, Any]] = []
    for name, function in parsed.value.items():
        if name not in HOOKS:
            problems.append(unknown("hook", name, HOOKS))
            continue
        kind, wanted, unique = HOOKS[name]
        called = attempt(functools.partial(collect, function))
        printed += called.printed
        if called.value is None:
            problems.append(f"{name} must return a list of {wanted.__name__}: {called.error}")
            continue
        for item in called.value:
            if isinstance(item, wanted):
                records.append((kind, getattr(item, unique), item))
            else:
                problems.append(
                    f"{name} returned a {type(item).__name__} where a {wanted.__name__} must stand"
                )
    if not parsed.value and not problems:
        problems.append("it has no function marked with @invkit.hookimpl")
    return Survey(tuple(records), tuple(problems), printed)


def collect(function: Callable[[], Any]) -> list[Any]:
    """Call a hook and return its records as a list."""
    returned = function()
    try:
        return list(returned)
    except TypeError:
        raise PluginError(f"it returned a {type(returned).__name__}") from None
