"""The kit for plugin authors: tests a denoiser, a metric or a whole plugin against the contract."""

from __future__ import annotations

__all__ = [
    "Check",
    "CheckReport",
    "check_denoiser",
    "check_metric",
    "check_plugin",
    "check_sampler",
    "check_source",
    "inspect_artifact",
    "inspect_denoiser",
    "inspect_metric",
    "inspect_sampler",
    "inspect_source",
    "sample_image",
    "sample_result",
]

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from invkit.artifacts import load as load_artifact
from invkit.data.images import as_image
from invkit.data.slices import SliceSet, load_slices
from invkit.denoisers.contract import check_contract, inverse_error, probed
from invkit.denoisers.loaded import LoadedDenoiser, load_denoiser, wrap_module
from invkit.denoisers.spec import Denoiser
from invkit.denoisers.units import units_test
from invkit.errors import DataError, PluginError, UnknownNameError, UsageError, described
from invkit.parts.config import LayerConfig
from invkit.parts.store import Store
from invkit.parts.workshop import Workshop
from invkit.plugins.gather import open_source
from invkit.plugins.manager import PluginHost, default_host
from invkit.plugins.records import Artifact, Metric, Sampler, Source
from invkit.plugins.reports import PluginReport, unknown
from invkit.samplers.family import Family, open_family
from invkit.sampling.layer import ScaledLayer
from invkit.split.split import Split
from invkit.statistics.intervals import number


@dataclass(frozen=True)
class Check:
    """One thing that was tested: on what, what, whether it holds, and what was seen."""

    subject: str
    name: str
    passed: bool
    detail: str = ""


@dataclass(frozen=True)
class CheckReport:
    """All that was tested about a plugin or one of its parts."""

    name: str
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether every check holds."""
        return not self.failed

    @property
    def failed(self) -> tuple[str, ...]:
        """The checks that do not hold, as `subject: name (detail)`."""
        return tuple(f"{c.subject}: {c.name} ({c.detail})" for c in self.checks if not c.passed)

    def raise_for_failure(self) -> None:
        """Raise PluginError if a check does not hold."""
        if self.failed:
            raise PluginError(f"{self.name} breaks the contract: {'; '.join(self.failed)}")


class Examination:
    """Runs checks one after the other and notes what each gave."""

    def __init__(self, subject: str) -> None:
        self.subject = subject
        self.checks: list[Check] = []

    @contextlib.contextmanager
    def check(self, name: str) -> Iterator[list[str]]:
        """Note a check: it holds unless its body raises; what is appended to the list given is its detail."""
        detail: list[str] = []
        try:
            yield detail
        except Exception as error:
            # Whatever a plugin raises is what we want to know here.
            self.checks.append(Check(self.subject, name, False, described(error)))
        else:
            self.checks.append(Check(self.subject, name, True, " ".join(detail)))

    def report(self) -> CheckReport:
        """Return what was noted."""
        return CheckReport(self.subject, tuple(self.checks))


def check_denoiser(spec: Denoiser, *, seed: int = 0) -> CheckReport:
    """Test a denoiser against the contract, for use in a plugin's own tests.

    Raises:
        PluginError: it breaks the contract; the message lists every check that failed.
    """
    report = inspect_denoiser(spec, seed=seed)
    report.raise_for_failure()
    return report


def inspect_denoiser(spec: Denoiser, *, seed: int = 0) -> CheckReport:
    """Test a denoiser and report: it builds, keeps shape and device, it can be split at its layers, and so on.

    Args:
        spec: the denoiser.
        seed: of the image and of an untrained network.

    Returns:
        the checks "builds", "preprocessing is invertible", "contract on two sizes", "layer KEY can be split",
        "no hooks left behind", and "weights TAG" for each of its weights.
    """
    examination = Examination(spec.name)
    x = sample_image(seed=seed)
    loaded: LoadedDenoiser | None = None
    with examination.check("builds") as detail:
        loaded = load_denoiser(spec, untrained_seed=seed)
        detail.append(f"{sum(p.numel() for p in loaded.network.parameters())} parameters")
    with examination.check("preprocessing is invertible") as detail:
        detail.append(f"off by {number(inverse_error(spec.preprocessing))} HU at most")
    if loaded is not None:
        examine_network(examination, loaded, x)
    for weights in spec.weights:
        with examination.check(f"weights {weights.tag}") as detail:
            trained = load_denoiser(spec, weights.tag)
            detail.append(f"sha256 {trained.sha256[:12]}")
            units = units_test(trained)
            if units is not None:
                detail.append(units.warning or f"moves known HU by {number(units.worst)} at most")
    return examination.report()


def examine_network(examination: Examination, loaded: LoadedDenoiser, x: Tensor) -> None:
    """Test what a network does to images, shape `(B, 1, H, W)`, HU."""
    hooks = count_hooks(loaded.network)
    with examination.check("contract on two sizes") as detail:
        loaded = probed(loaded)
        check_contract(loaded, x)
        detail.append(f"size multiple {loaded.size_multiple}")
    for layer in loaded.spec.layers:
        with examination.check(f"layer {layer.key} can be split") as detail:
            report = Split(loaded, layer.key).check(x)
            detail.append(f"{layer.module}, a {'branch' if report.bypass else 'cut'}")
    with examination.check("no hooks left behind"):
        left = count_hooks(loaded.network) - hooks
        if left:
            raise PluginError(f"{left} hooks more than before; whatever adds a hook must remove it")


def check_metric(metric: Metric, result: Any = None) -> CheckReport:
    """Test a metric against the contract, for use in a plugin's own tests.

    Args:
        metric: the metric.
        result: the result of an analysis; by default a small one made of noise, see `sample_result`.

    Raises:
        PluginError: it breaks the contract; the message lists every check that failed.
    """
    report = inspect_metric(metric, result)
    report.raise_for_failure()
    return report


def inspect_metric(metric: Metric, result: Any = None) -> CheckReport:
    """Test a metric and report: finite numbers, the same ones twice, and the result left as it was."""
    examination = Examination(metric.name)
    result = sample_result() if result is None else result
    before = {name: value.clone() for name, value in tensors_of(result)}
    first: float | dict[str, float] | None = None
    with examination.check("gives finite numbers") as detail:
        first = metric.measure(result)
        named = first if isinstance(first, dict) else {metric.name: first}
        detail.append(", ".join(f"{name}={number(value)}" for name, value in named.items()))
    if first is not None:
        with examination.check("gives the same twice"):
            second = metric.measure(result)
            if second != first:
                raise PluginError(f"got {first}, then {second}; take any randomness from a fixed seed")
    with examination.check("result unchanged"):
        changed = [name for name, value in tensors_of(result) if not torch.equal(value, before[name])]
        if changed:
            raise PluginError(f"compute changes result.{changed[0]} in place; clone it first")
    return examination.report()


def check_source(source: Source) -> CheckReport:
    """Test a data source against the contract, for use in a plugin's own tests.

    Raises:
        PluginError: it breaks the contract; the message lists every check that failed.
    """
    report = inspect_source(source)
    report.raise_for_failure()
    return report


def inspect_source(source: Source) -> CheckReport:
    """Test a data source and report: without an argument it gives slices in HU, and the same ones twice.

    A source that needs an argument says so with a `DataError` or `UsageError`, and is then tested no further.
    """
    examination = Examination(source.name)
    first: SliceSet | None = None
    with examination.check("gives slices") as detail:
        try:
            first = open_source(source, "", 0)
            detail.append(first.description)
        except (DataError, UsageError) as error:
            detail.append(f"not tested, since it needs an argument: {error}")
    if first is None:
        return examination.report()
    with examination.check("gives images in HU") as detail:
        image = as_image(first.slices[0].image)
        detail.append(f"{number(float(image.min()))} to {number(float(image.max()))} HU")
    with examination.check("gives the same twice"):
        second = open_source(source, "", 0)
        if second.fingerprint != first.fingerprint:
            raise PluginError(
                "the fingerprint of its slices differs between two calls; take any randomness from the seed"
            )
    return examination.report()


def check_sampler(sampler: Sampler) -> CheckReport:
    """Test a sampler against the contract, for use in a plugin's own tests.

    Raises:
        PluginError: it breaks the contract; the message lists every check that failed.
    """
    report = inspect_sampler(sampler)
    report.raise_for_failure()
    return report


def inspect_sampler(sampler: Sampler) -> CheckReport:
    """Test a sampler and report: its family can be made and, where it needs no training, it draws.

    A trained one would have to be trained first, so only its family is looked at.
    """
    examination = Examination(sampler.name)
    family: Family | None = None
    for domain in sampler.domains:
        with examination.check(f"is made for the domain {domain}") as detail:
            family = open_family(sampler, "high" if domain == "high" else "low")
            lacking = [name for name in ("find", "learn") if not callable(getattr(family, name, None))]
            if lacking:
                raise PluginError(f"{type(family).__name__} has no method {lacking[0]}")
            detail.append(type(family).__name__)
    if family is None or sampler.trained or "low" not in sampler.domains or examination.report().failed:
        return examination.report()
    with examination.check("draws images that depend on seed, image and index alone") as detail:
        examine_draws(family)
    return examination.report()


def examine_draws(family: Family) -> None:
    """Let a sampler that needs no training draw for one layer of a small network."""
    store = Store(PluginHost(installed=False))
    slices = load_slices(["phantoms:1"])
    workshop = Workshop(store, slices, False, LayerConfig.preset("tiny"), "tiny", 0, "cpu")
    split = Split(wrap_module(nn.AvgPool2d(3, 1, 1)), "output")
    found = family.find(split, "low", workshop)
    if found is None:
        raise PluginError("find returned None: say trained=True, or return what draws")
    draws = found.draws(ScaledLayer.of(split, 1.0, 1.0, 1.0).at(sample_image()[:1]))
    first = draws(0, 0, range(4))
    if tuple(first.shape) != (4, 1, 32, 32) or not bool(first.isfinite().all()):
        raise PluginError(f"4 draws must be finite images of shape (4, 1, 32, 32), got {tuple(first.shape)}")
    if not torch.equal(first, draws(0, 0, range(4))):
        raise PluginError(
            "the same draws come out otherwise the second time; take any randomness from the seed"
        )
    if not torch.allclose(first[2:], draws(0, 0, [2, 3]), rtol=1e-4, atol=1e-2):
        raise PluginError("draws 2 and 3 depend on which are drawn with them")
    if torch.equal(first[0], first[1]):
        raise PluginError("draws 0 and 1 are the same")


def check_plugin(name: str, *, host: PluginHost | None = None) -> CheckReport:
    """Test all that a plugin brings and report.

    Args:
        name: of the plugin, its distribution, or `FILE[:ATTRIBUTE]`, or the folder of a package.
        host: the plugins it is looked up in; those of this process by default.

    Raises:
        UnknownNameError: there is no such plugin.
        PluginError: a file cannot be used.
    """
    host = host or default_host()
    is_file = ".py" in name or Path(name, "__init__.py").is_file()
    reports = [host.add_file(name)] if is_file else installed(host, name)
    checks: list[Check] = []
    for report in reports:
        checks.append(Check(report.name, "loads", report.status == "ok", report.reason))
        for denoiser in report.provides.get("denoisers", ()):
            checks.extend(inspect_denoiser(host.find("denoisers", denoiser)).checks)
        for metric in report.provides.get("metrics", ()):
            checks.extend(inspect_metric(host.find("metrics", metric)).checks)
        for source in report.provides.get("sources", ()):
            checks.extend(inspect_source(host.find("sources", source)).checks)
        for sampler in report.provides.get("samplers", ()):
            checks.extend(inspect_sampler(host.find("samplers", sampler)).checks)
        for sha256 in report.provides.get("artifacts", ()):
            checks.extend(inspect_artifact(host.find("artifacts", sha256)).checks)
    return CheckReport(name, tuple(checks))


def inspect_artifact(artifact: Artifact) -> CheckReport:
    """Test that a trained file has the bytes, the kind and the provenance that the plugin promises."""
    examination = Examination(artifact.path)
    with examination.check("is what it says") as detail:
        stored = load_artifact(artifact.locate(), kind=artifact.kind, sha256=artifact.sha256)
        if stored.meta != dict(artifact.meta):
            raise PluginError("the provenance in its sidecar differs from the plugin's `meta`")
        detail.append(f"sha256 {stored.sha256[:12]}")
    return examination.report()


def sample_image(size: int = 32, *, seed: int = 0) -> Tensor:
    """Return two images to test on, shape `(2, 1, size, size)`, HU: soft noise around water and tissue."""
    draws = torch.randn((2, 1, size, size), generator=torch.Generator().manual_seed(seed))
    return 40.0 + 300.0 * draws.clamp(-3.0, 3.0)


def sample_result(*, seed: int = 0) -> Any:
    """Return a stand-in for a result, made of noise: `x`, `samples`, `raw`, `mean` and `std`, HU, and one layer with the same."""
    x = sample_image(seed=seed)
    draws = torch.randn((8, *x.shape), generator=torch.Generator().manual_seed(seed + 1))
    samples = x + 20.0 * draws
    images = {"samples": samples, "raw": samples.clone(), "mean": samples.mean(0), "std": samples.std(0)}
    layer = SimpleNamespace(**images, layer="1", metrics={}, figures={})
    return SimpleNamespace(
        **images, x=x, f_x=x.clone(), model="sample", layer="1", layers=(layer,), metrics={}
    )


def installed(host: PluginHost, name: str) -> list[PluginReport]:
    """Return the reports of a plugin or of all plugins of a distribution."""
    found = [report for report in host.reports() if name in (report.name, report.distribution)]
    if not found:
        raise UnknownNameError(unknown("plugin", name, [report.name for report in host.reports()]))
    return found


def count_hooks(network: nn.Module) -> int:
    """Return how many forward and backward hooks hang on a network's modules."""
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return sum(len(getattr(module, kind)) for module in network.modules() for kind in kinds)


def tensors_of(result: Any) -> list[tuple[str, Tensor]]:
    """Return the images of a result by attribute."""
    names = ("x", "samples", "raw", "mean", "std")
    found = ((name, getattr(result, name, None)) for name in names)
    return [(name, value) for name, value in found if isinstance(value, Tensor)]
