"""One analysis as independent items: the models to be trained, each layer, and the whole result."""

__all__ = ["Analysis", "layer_list", "with_plugin_metrics"]

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from invkit.analysis.measure import measure_layer
from invkit.analysis.memory import state_memory
from invkit.analysis.merge import merge_layers
from invkit.analysis.outcome import LayerResult
from invkit.analysis.runs import AnalysisResult
from invkit.analysis.specs import ImageSpec, Runtime, SamplingSpec, TrainingSpec
from invkit.analysis.study import Study
from invkit.data.cache.split import check_same_split
from invkit.data.slices import split_meta
from invkit.denoisers.contract import check_contract
from invkit.denoisers.loaded import LoadedDenoiser
from invkit.errors import SplitError, UsageError, described
from invkit.measures.comparison import Controls
from invkit.measures.random_weights import WeightRandomisation
from invkit.parts.workshop import Workshop
from invkit.plugins.load import stated_provenance
from invkit.plugins.manager import PluginHost
from invkit.plugins.records import Sampler
from invkit.samplers.family import FoundLayer, find_layers, open_family
from invkit.split.split import Split

CONTROLS = ("input", "const")


class Analysis:
    """What `analyze` does, in pieces. Whatever a piece needs is found, or else trained, when it is first asked for.

    Args:
        denoiser: f, on the runtime's device.
        layer: as for `analyze`.
        image: which image.
        sampling: how samples are drawn, refined and compared.
        training: how what is missing is trained.
        runtime: where it runs, and whom it tells.
        workshop: where trained parts come from, if it is open already.

    Attributes:
        names: the layers that are asked for, each once.

    Raises:
        InvkitError: the image, a layer or the training data cannot be used. Nothing is trained before that is known.
    """

    def __init__(
        self,
        denoiser: LoadedDenoiser,
        layer: str | Sequence[str] | None,
        image: ImageSpec,
        sampling: SamplingSpec,
        training: TrainingSpec,
        runtime: Runtime,
        workshop: Workshop | None = None,
    ) -> None:
        self.denoiser, self.sampling, self.runtime = denoiser, sampling, runtime
        self.sampler = runtime.host.sampler(sampling.sampler)
        self.family = open_family(self.sampler, sampling.domain)
        self.subject = image.subject(sampling.seed, runtime.device)
        self.names = _layer_names(denoiser, denoiser.spec.default_layer if layer is None else layer)
        self._splits = [Split(denoiser, name) for name in self.names]
        self.f_x = check_contract(denoiser, self.subject.x)
        self._checks = [split.check(self.subject.x, self.f_x) for split in self._splits]
        self.workshop = training.workshop(runtime) if workshop is None else workshop
        self._found: dict[str, FoundLayer] = {}
        if self.sampler.trained:
            self._check_patients(vaes=False)

    @cached_property
    def trained(self) -> dict[str, Split]:
        """What must have a trained model, by name: layers, controls, and, where that is asked for, layers with random weights."""
        if not self.sampler.trained:
            return {}
        splits = dict(zip(self.names, self._splits, strict=True))
        splits |= {name: splits.get(name) or Split(self.denoiser, name) for name in CONTROLS}
        random = self._randomised.denoiser
        if self.sampling.controls == "full" and random is not None:
            own = [name for name in self.names if not splits[name].is_control]
            splits |= {f"random {name}": Split(random, name) for name in own}
        return splits

    def share(self) -> None:
        """Find or train what models of layers share: the VAEs, and a sampler's own codes."""
        self._check_patients(vaes=True)
        for split in {split.denoiser.sha256: split for split in self.trained.values()}.values():
            self.family.find(split, self.sampling.domain, self.workshop)

    def has(self, name: str) -> bool:
        """Return whether one of `trained` need not be trained."""
        return self.family.find(self.trained[name], self.sampling.domain, self.workshop) is not None

    def learn(self, name: str) -> None:
        """Find or train one of `trained`."""
        self._find(name, self.trained[name])

    def measure(self, name: str) -> LayerResult:
        """Sample one of the layers and measure it.

        Raises:
            ResourceError: it would take more memory than there is; found before anything is sampled.
        """
        assert self.memory
        found = self._layer(name)
        self.runtime.say(
            f"sampling {self.sampling.samples} images for layer {name}"
            if found.model is not None
            else f"drawing {self.sampling.refined} images for layer {name}, without training"
        )
        return measure_layer(self.study, found, self._checks[self.names.index(name)])

    def result(
        self, measured: Sequence[LayerResult], memory: Mapping[str, int] | None = None
    ) -> AnalysisResult:
        """Return what is said of all layers.

        Args:
            measured: one for each of `names`, in that order.
            memory: as it was found when they were measured, if that was elsewhere.
        """
        layers = [(self._layer(name), check) for name, check in zip(self.names, self._checks, strict=True)]
        result = merge_layers(self.study, layers, measured, self.memory if memory is None else memory)
        result = replace(result, warnings=(*_experimental(self.sampler), *result.warnings))
        return with_plugin_metrics(result, self.runtime.host)

    def whole(self) -> AnalysisResult:
        """Do all of it, one piece after the other."""
        if self.sampler.trained:
            self._check_patients(vaes=True)
        for name in self.trained:
            self.learn(name)
        return self.result([self.measure(name) for name in self.names])

    @cached_property
    def memory(self) -> dict[str, int]:
        """What the analysis takes, bytes; said once, and refused where it is too much."""
        model = self._layer(self.names[0]).model
        plan = state_memory(
            self._splits,
            [] if model is None else [model],  # they are all of one kind and size
            self.subject.x,
            samples=self.sampling.samples,
            refined=self.sampling.refined if self.sampling.domain == "low" else 0,
            limit=self.runtime.limit,
            say=self.runtime.say,
        )
        return plan.to_json()

    @cached_property
    def study(self) -> Study:
        """What every layer is measured with."""
        controls = None
        if self.sampler.trained:
            of_input, of_const = (self._find(name, self.trained[name]).model for name in CONTROLS)
            if of_input is not None and of_const is not None:
                controls = Controls(of_input, of_const)
        random = {
            name: self._find(f"random {name}", self.trained[f"random {name}"]).model
            for name in self.names
            if f"random {name}" in self.trained
        }
        return Study.of(
            self.denoiser,
            self.subject,
            self.f_x,
            self.sampling,
            self.workshop,
            controls=controls,
            randomised=replace(
                self._randomised, models={name: model for name, model in random.items() if model is not None}
            ),
        )

    @cached_property
    def _randomised(self) -> WeightRandomisation:
        return WeightRandomisation.of(self.denoiser, seed=self.workshop.seed)

    def _layer(self, name: str) -> FoundLayer:
        return self._find(name, self._splits[self.names.index(name)])

    def _find(self, name: str, split: Split) -> FoundLayer:
        """Return what draws for a layer or control; what is missing is trained."""
        if name not in self._found:
            found = find_layers(self.sampler, self.family, [split], self.sampling.domain, self.workshop)
            self._found[name] = found[0]
        return self._found[name]

    def _check_patients(self, *, vaes: bool) -> None:
        """Refuse parts that were trained on one another's test patients: before hours of training, and again with the VAEs.

        Raises:
            DataError: they were.
        """
        stated: dict[str, Mapping[str, Any]] = {
            self.denoiser.name: stated_provenance(self.denoiser),
            "the training data": split_meta(self.workshop.slices),
        }
        if vaes:
            domain = self.sampling.domain
            stated["the VAE"] = self.workshop.vae("low").meta
            stated["the VAE of the target domain"] = self.workshop.vae(domain).meta
        check_same_split(stated)


def layer_list(layer: str | Sequence[str]) -> list[str]:
    """Return what was asked for as a list, whatever is in it."""
    return [layer] if isinstance(layer, str) or not isinstance(layer, Sequence) else list(layer)


def _layer_names(denoiser: LoadedDenoiser, layer: str | Sequence[str]) -> list[str]:
    """Return the layers asked for, each once."""
    names: list[str] = []
    for name in layer_list(layer):
        if not isinstance(name, str):
            raise SplitError(
                f"a layer of {denoiser.name} must be named by a string such as '3', 'a+b' for a set, got {name!r}"
            )
        if name != "all":
            names.append(name)
        elif not denoiser.spec.layers:
            raise UsageError(
                f"{denoiser.name} defines no layers, so 'all' selects none: name modules instead"
            )
        else:
            names += [known.key for known in denoiser.spec.layers]
    if not names:
        raise UsageError(f"no layer of {denoiser.name} was named: leave `layer` out, or name one")
    return [name for index, name in enumerate(names) if name not in names[:index]]


def with_plugin_metrics(result: AnalysisResult, host: PluginHost) -> AnalysisResult:
    """Compute the plugins' metrics of every layer and put them beside its figures, under their own names.

    A metric sees a result whose first layer is the one that is asked about. One that fails costs the user neither the analysis nor
    the others: its message stands in its place, and among the warnings.
    """
    layers, failed = [], []
    for layer in result.layers:
        figures = dict(layer.figures)
        for metric in host.metrics().values():
            try:
                figures[metric.name] = metric.measure(replace(result, layers=(layer,)))
            except Exception as error:
                figures[metric.name] = {"failed": described(error)}
                failed.append(f"The metric {metric.name} failed for layer {layer.layer}: {described(error)}")
        layers.append(replace(layer, figures=figures))
    return replace(result, layers=tuple(layers), warnings=(*result.warnings, *failed))


def _experimental(sampler: Sampler) -> tuple[str, ...]:
    """Return a warning where samples come from a model that was hardly measured at full size yet."""
    if not sampler.experimental:
        return ()
    return (
        f"The sampler {sampler.name} is experimental: how its samples compare with those of the default at full size was measured "
        "for few layers. What is certified holds all the same.",
    )
