"""The hooks a plugin may implement: all of the plugin interface in one place."""

# What a hook does is written by plugins; here it has no body.
# mypy: disable-error-code="empty-body"

from __future__ import annotations

__all__ = [
    "hookimpl",
    "hookspec",
    "invkit_artifacts",
    "invkit_backbones",
    "invkit_denoisers",
    "invkit_metrics",
    "invkit_report_sections",
    "invkit_samplers",
    "invkit_sources",
]

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from invkit.denoisers.spec import Denoiser
    from invkit.plugins.records import Artifact, Backbone, Metric, Sampler, Section, Source

hookspec = pluggy.HookspecMarker("invkit")
hookimpl = pluggy.HookimplMarker("invkit")


@hookspec
def invkit_denoisers() -> Iterable[Denoiser]:
    """Return denoisers; called once, when any name is first looked up, so it must not import torch."""


@hookspec
def invkit_sources() -> Iterable[Source]:
    """Return slices to train on; called once, when any name is first looked up, long before `Source.open`."""


@hookspec
def invkit_metrics() -> Iterable[Metric]:
    """Return metrics; called once, before the first analysis, on whose result `Metric.compute` then runs."""


@hookspec
def invkit_report_sections() -> Iterable[Section]:
    """Return parts of the report; called once, before the first report is written with `Section.render`."""


@hookspec
def invkit_artifacts() -> Iterable[Artifact]:
    """Return trained VAEs and cINNs; called once, before an analysis looks for one that matches."""


@hookspec
def invkit_backbones() -> Iterable[Backbone]:
    """Return perceptual feature networks; called once, when a recipe first names a backbone."""


@hookspec
def invkit_samplers() -> Iterable[Sampler]:
    """Return samplers; called once, when any name is first looked up, long before `Sampler.family` is called."""
