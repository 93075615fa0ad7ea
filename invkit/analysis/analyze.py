"""The verb the product is known by: what does this layer of this denoiser ignore?"""

__all__ = ["analyze", "analyze_layers", "layer_list"]

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from torch import nn

from invkit.analysis.examine import examine
from invkit.analysis.result import AnalysisResult
from invkit.analysis.specs import ControlSet, ImageSpec, Refine, Runtime, SamplingSpec, TrainingSpec
from invkit.analysis.study import Study
from invkit.analysis.subject import Data
from invkit.data.cache.split import check_same_split
from invkit.data.patches import Domain
from invkit.data.slices import NoiseModel, split_meta
from invkit.denoisers.loaded import LoadedDenoiser, check_contract
from invkit.denoisers.spec import Denoiser
from invkit.errors import InvkitError, UsageError
from invkit.images.region import RegionSpec
from invkit.measures.comparison import Controls
from invkit.measures.random_weights import WeightRandomisation
from invkit.parts.config import LayerConfig
from invkit.parts.workshop import Workshop
from invkit.plugins.gather import DataSpecs
from invkit.plugins.load import load, stated_provenance
from invkit.plugins.manager import PluginHost
from invkit.plugins.records import Sampler
from invkit.samplers.family import find_layers, open_family
from invkit.split.split import Split
from invkit.training.progress import Progress

BUNDLED = ("chen2017", "yang2018")  # denoisers that come along as plugins


def analyze(
    model: str | Denoiser | LoadedDenoiser | nn.Module = "yang2018",
    layer: str | Sequence[str] = "3",
    data: Data = None,
    *,
    samples: int = 250,
    refine: Refine = 16,
    controls: ControlSet = "standard",
    domain: Domain = "low",
    sampler: str = "vae",
    seed: int = 0,
    dose: float | None = None,
    hu_range: tuple[float, float] | None = None,
    spacing: float | None = None,
    region: RegionSpec = None,
    train_data: DataSpecs = None,
    train_noise: NoiseModel = "physical",
    train_seed: int = 0,
    config: LayerConfig | None = None,
    vae_preset: str = "default",
    allow_bypass: bool = False,
    device: str = "cpu",
    memory: str | float | None = None,
    cache: str | Path | None = None,
    host: PluginHost | None = None,
    progress: Progress | None = None,
    say: Callable[[str], None] | None = None,
) -> AnalysisResult:
    """Sample images that a layer of a denoiser cannot tell apart by this model, and measure how far that holds.

    What is needed and exists, bundled or in the cache, is used where its provenance matches; what is missing is trained.

    Args:
        model: name of a denoiser, its description, or any `nn.Module` that maps `(B, 1, H, W)` to the same shape.
        layer: key or module name of a layer, `"a,b"` for a set of layers, `"input"`, `"const"` or `"output"`; several
            are given as a list. `"all"` stands for every layer that the plugin names.
        data: a path, an array or tensor in HU, or `None` for a CT slice that is at hand everywhere.
        samples: N, draws for each image; at least 2.
        refine: how many of them are refined onto the layer's fiber and certified: a number, `"all"` or `"none"`.
        controls: `"standard"` refines samples for the layer with random weights; `"full"` trains a model for it, too. All
            other controls always run.
        domain: `"low"` samples low-dose images, `"high"` their high-dose partners given the same z.
        sampler: what draws them, by its name: `"vae"`, the published method, a cINN on flat codes of a VAE-WGAN; `"training-free"`,
            f(x) plus noise with the spectrum of x - f(x), which says nothing before it is refined and needs no trained part; or
            that of a plugin.
        seed: decides the noise of a simulated dose and every draw.
        dose: reduce the dose of `data` to this fraction by simulation; by default it is taken for low dose as it is.
        hu_range: HU of the smallest and largest value of a PNG or TIFF.
        spacing: distance of the pixels' centres, mm, for sizes in mm; by default what DICOM states.
        region: the pixels that spreads are measured on and figures show: `"x,y,w,h"`, four numbers, or a mask of the
            image's size, an array or a path. Phi sees the whole image, and distances of activations and outputs are the
            whole image's.
        train_data: what missing parts are trained on: paths to CT, or `None` for the built-in phantoms.
        train_noise: how low dose is made for it: `"physical"`, simulated on the rays of a scanner, or `"image"`,
            stationary noise.
        train_seed: decides every random number of what has to be trained.
        config: sizes and steps of what is trained for a layer.
        vae_preset: size and steps of a VAE that has to be trained.
        allow_bypass: accept a layer that a skip connection goes round; the result says so.
        device: where to compute.
        memory: most that the process may take, in bytes or such as `"1.5G"`; by default what the machine has. What the
            analysis takes is said before anything is sampled, and refused where it is more.
        cache: folder for trained parts; by default the user's cache.
        host: the plugins.
        progress: called as a training goes on.
        say: called with one line for each thing done.

    Raises:
        InvkitError: the input, the layer or a plugin cannot be used; the message says why and what to do.

    Example:
        >>> import invkit
        >>> result = invkit.analyze("yang2018", layer="3", samples=4)
        >>> result.samples.shape
        torch.Size([4, 1, 1, 128, 128])
        >>> result.raw_std.shape
        torch.Size([1, 1, 128, 128])
    """
    image = ImageSpec(data, dose, hu_range, spacing, region)
    sampling = SamplingSpec(sampler, samples, refine, controls, domain, seed, allow_bypass)
    training = TrainingSpec(train_data, train_noise, train_seed, config or LayerConfig(), vae_preset, cache)
    runtime = Runtime.of(host, say, device=device, memory=memory, progress=progress)
    denoiser = load(model, device=runtime.device, host=runtime.host)
    return analyze_layers(denoiser, layer, image, sampling, training, runtime)


def analyze_layers(
    denoiser: LoadedDenoiser,
    layer: str | Sequence[str],
    image: ImageSpec,
    sampling: SamplingSpec,
    training: TrainingSpec,
    runtime: Runtime,
) -> AnalysisResult:
    """Do what `analyze` does, with all that is asked in four parts.

    Args:
        denoiser: f, on the runtime's device.
        layer: as for `analyze`.
        image: which image.
        sampling: how samples are drawn, refined and compared.
        training: how what is missing is trained.
        runtime: where it runs, and whom it tells.
    """
    host = runtime.host
    record = host.sampler(sampling.sampler)
    family = open_family(record, sampling.domain)
    subject = image.subject(sampling.seed, runtime.device)
    names = _layer_names(denoiser, layer)
    splits = [Split(denoiser, name, allow_bypass=sampling.allow_bypass) for name in names]
    f_x = check_contract(denoiser, subject.x)
    checks = [split.check(subject.x, f_x) for split in splits]
    workshop = training.workshop(runtime)
    controls = None
    if record.trained:
        _check_patients(denoiser, workshop, sampling.domain)
        ends = [Split(denoiser, "input"), Split(denoiser, "const")]
        *found, of_input, of_const = find_layers(record, family, [*splits, *ends], sampling.domain, workshop)
        if of_input.model is not None and of_const.model is not None:
            controls = Controls(of_input.model, of_const.model)
    else:
        found = find_layers(record, family, splits, sampling.domain, workshop)
    randomised = WeightRandomisation.of(
        denoiser, workshop.slices, dose=workshop.config.dose, seed=workshop.seed
    )
    if sampling.controls == "full" and record.trained:
        randomised = randomised.trained(
            splits, lambda those: find_layers(record, family, those, sampling.domain, workshop)
        )
    study = Study.of(
        denoiser,
        subject,
        f_x,
        sampling,
        workshop,
        controls=controls,
        randomised=randomised,
        beside=_another(denoiser, host, runtime.device),
    )
    result = examine(study, list(zip(found, checks, strict=True)), runtime)
    result = replace(result, warnings=(*_experimental(record), *result.warnings))
    return with_plugin_metrics(result, host)


def _check_patients(denoiser: LoadedDenoiser, workshop: Workshop, domain: Domain) -> None:
    """Refuse parts that were trained on one another's test patients: before hours of training, and again with the VAEs.

    Raises:
        DataError: they were.
    """
    stated = {denoiser.name: stated_provenance(denoiser), "the training data": split_meta(workshop.slices)}
    check_same_split(stated)
    vaes = {"the VAE": workshop.vae("low").meta, "the VAE of the target domain": workshop.vae(domain).meta}
    check_same_split({**stated, **vaes})


def _experimental(sampler: Sampler) -> tuple[str, ...]:
    """Return a warning where samples come from a model that was hardly measured at full size yet."""
    if not sampler.experimental:
        return ()
    return (
        f"The sampler {sampler.name} is experimental: how its samples compare with those of the default at full size was measured "
        "for few layers. What is certified holds all the same.",
    )


def layer_list(layer: str | Sequence[str]) -> list[str]:
    """Return what was asked for as a list; what is no name at all, such as a number, is for `Split` to refuse."""
    return [layer] if isinstance(layer, str) or not isinstance(layer, Sequence) else list(layer)


def _layer_names(denoiser: LoadedDenoiser, layer: str | Sequence[str]) -> list[str]:
    """Return the layers asked for, each once."""
    names: list[str] = []
    for name in layer_list(layer):
        if name != "all":
            names.append(name)
        elif not denoiser.spec.layers:
            raise UsageError(
                f"{denoiser.name} defines no layers, so 'all' selects none: name modules instead"
            )
        else:
            names += [known.key for known in denoiser.spec.layers]
    return list(dict.fromkeys(names))


def _another(denoiser: LoadedDenoiser, host: PluginHost, device: str) -> LoadedDenoiser | None:
    """Return another of the denoisers that come along, where one is installed and can be used."""
    for name in BUNDLED:
        if name != denoiser.spec.name and name in host.denoisers():
            try:
                return load(name, device=device, host=host)
            except InvkitError:
                # Whether another network ignores the same is an extra: without it the analysis stands.
                continue
    return None


def with_plugin_metrics(result: AnalysisResult, host: PluginHost) -> AnalysisResult:
    """Compute the plugins' metrics of every layer and put them beside its figures, under their own names.

    A metric sees a result whose first layer is the one that is asked about. One that fails costs the user neither the analysis nor
    the others: its entry says so.
    """
    layers = []
    for layer in result.layers:
        figures = dict(layer.figures)
        for metric in host.metrics().values():
            try:
                value = metric.compute(replace(result, layers=(layer,)))
                figures[metric.name] = dict(value) if isinstance(value, Mapping) else float(value)
            except Exception as error:
                # The message of a stranger's error may quote anything, so only its kind is kept.
                figures[metric.name] = None
                warnings.warn(
                    f"metric {metric.name} failed for layer {layer.layer}: {type(error).__name__}",
                    stacklevel=2,
                )
        layers.append(replace(layer, figures=figures))
    return replace(result, layers=tuple(layers))
