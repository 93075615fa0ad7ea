"""Reads which hooks a plugin implements, and what each must return."""

from __future__ import annotations

__all__ = ["HOOKS", "has_hooks", "hook_callers", "unmarked_hooks"]

import inspect
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import pluggy

from invkit.denoisers.spec import Denoiser
from invkit.errors import PluginError
from invkit.plugins import hookspecs
from invkit.plugins.records import Artifact, Backbone, Metric, Sampler, Section, Source

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
