"""The verb the product is known by: what does this layer of this denoiser ignore?"""

__all__ = ["analyze", "layer_list"]

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

from torch import nn

from invkit.analysis.examine import examine
from invkit.analysis.memory import parse_memory
from invkit.analysis.result import AnalysisResult
from invkit.analysis.subject import Data, choose_subject
from invkit.analysis.untrained import examine_untrained
from invkit.data.cache.split import check_same_split
from invkit.data.patches import Domain
from invkit.data.slices import NoiseModel, split_meta
from invkit.denoisers.loaded import LoadedDenoiser, check_contract
from invkit.denoisers.spec import Denoiser
from invkit.errors import InvkitError, UsageError
from invkit.images.region import RegionSpec, choose_region
from invkit.measures.ladder import Controls
from invkit.measures.random_weights import CONTROL_SETS, ControlSet, RandomPhi
from invkit.parts.config import LayerConfig
from invkit.parts.store import Store
from invkit.plugins.gather import DataSpecs, gather
from invkit.plugins.load import load, stated_provenance
from invkit.plugins.manager import PluginHost, default_host
from invkit.samplers.parts import REPRESENTATIONS, Parts, Representation, silent
from invkit.sampling.base import Sampler
from invkit.split.split import Split
from invkit.training.device import usable_device
from invkit.training.processes.sharing import first_only
from invkit.training.progress import Progress

Say = Callable[[str], None]
BUNDLED = ("chen2017", "yang2018")  # denoisers that come along as plugins
SAMPLERS: tuple[str, ...] = get_args(Sampler)


def analyze(
    model: str | Denoiser | LoadedDenoiser | nn.Module = "yang2018",
    layer: str | Sequence[str] = "3",
    data: Data = None,
    *,
    samples: int = 250,
    refine: int | Literal["all", "none"] = 16,
    controls: ControlSet = "standard",
    domain: Domain = "low",
    sampler: Sampler = "cinn",
    representation: Representation = "vae",
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
    say: Say | None = None,
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
        sampler: what draws them: `"cinn"`; `"training-free"`, f(x) plus noise with the spectrum of x - f(x), which says
            nothing before it is refined and needs no trained part; or `"residual"`, a flow of x - f(x) on small tiles, which
            loses nothing of it.
        representation: what images are drawn in: `"vae"`, flat codes of the VAE-WGAN and a cINN; `"wavelet"`, a
            convolutional flow on a wavelet basis of the image itself, which loses nothing; `"spatial"`, codes that are grids,
            of a convolutional VAE, and a convolutional flow of them; or `"conditional"`, flat codes of what f(x) does not say,
            of a VAE that is given f(x), and a cINN.
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

    Within `invkit.training.processes.group.process_group`, processes share the work, and rank 0 has the result: the same, bit for
    bit, as that of one process with as many threads.

    Raises:
        ShareDone: this process shares the work of others and is not the first; `process_group` ends its block.
        InvkitError: the input, the layer or a plugin cannot be used; the message says why and what to do.

    Example:
        >>> import invkit
        >>> result = invkit.analyze("yang2018", layer="3", samples=4)
        >>> result.samples.shape
        torch.Size([4, 1, 1, 128, 128])
        >>> result.raw_std.shape
        torch.Size([1, 1, 128, 128])
    """
    say = say or silent
    if samples < 2:
        raise UsageError(f"a spread needs at least 2 samples, got {samples}")
    count = {"all": samples, "none": 0}.get(refine, refine) if isinstance(refine, str) else refine
    if not isinstance(count, int) or isinstance(count, bool) or count < 0:
        raise UsageError(f"refine is a number of samples, 'all' or 'none', got {refine!r}")
    if controls not in CONTROL_SETS:
        raise UsageError(f"controls must be one of {', '.join(CONTROL_SETS)}, got {controls!r}")
    if domain not in ("low", "high"):
        raise UsageError(f"domain must be 'low' or 'high', got {domain!r}")
    if sampler not in SAMPLERS:
        raise UsageError(f"sampler must be one of {', '.join(SAMPLERS)}, got {sampler!r}")
    if sampler != "cinn" and representation != "vae":
        raise UsageError(f"a representation is chosen for the sampler 'cinn', and the sampler is {sampler!r}")
    if sampler == "training-free" and domain == "high":
        raise UsageError(
            "training-free samples are low-dose images: the domain 'high' needs the sampler 'cinn'"
        )
    if representation not in REPRESENTATIONS:
        raise UsageError(
            f"representation must be one of {', '.join(REPRESENTATIONS)}, got {representation!r}"
        )
    limit = parse_memory(memory)
    device = usable_device(device)
    host = host or default_host()
    denoiser = load(model, device=device, host=host)
    subject = choose_subject(data, seed=seed, dose=dose, hu_range=hu_range, spacing=spacing)
    height, width = subject.x.shape[-2:]
    chosen = choose_region(region, (height, width))
    subject = replace(subject, x=subject.x.to(device), region=chosen)
    if chosen is not None:
        subject = replace(
            subject, description=f"{subject.description}; spreads are those of {chosen.description}"
        )
    config = config or LayerConfig()
    splits = [Split(denoiser, name, allow_bypass=allow_bypass) for name in _layer_names(denoiser, layer)]
    check_contract(denoiser, subject.x[:1])
    checks = [split.check(subject.x) for split in splits]
    store = Store(host, Path(cache) if cache is not None else None)
    slices = gather(train_data, host, train_seed, train_noise, store.root)
    parts = Parts(
        store=store,
        slices=slices,
        bundled=train_data is None and train_noise == "physical",
        config=config,
        vae_preset=vae_preset,
        seed=train_seed,
        device=device,
        representation=representation,
        progress=progress,
        say=say,
        sampler=sampler,
    )
    if sampler == "training-free":
        proposed = examine_untrained(
            zip(splits, checks, strict=True),
            denoiser=denoiser,
            subject=subject,
            slices=slices,
            store=store,
            config=config,
            samples=samples,
            seed=seed,
            train_seed=train_seed,
            refine=count,
            low=parts.found_vae("low"),
            beside=_another(denoiser, host, device),
            memory=limit,
            say=say,
        )
        first_only()
        add_plugin_metrics(proposed, host)
        return proposed
    # Now, and not after hours of training; the VAEs are asked below.
    check_same_split({denoiser.name: stated_provenance(denoiser), "the training data": split_meta(slices)})
    low = parts.vae("low")
    target = low if domain == "low" else parts.vae("high")
    check_same_split(
        {
            denoiser.name: stated_provenance(denoiser),
            "the VAE": low.meta,
            "the VAE of the target domain": target.meta,
            "the training data": split_meta(parts.slices),
        }
    )
    *found, of_input, of_const = parts.layers(
        [*splits, Split(denoiser, "input"), Split(denoiser, "const")], target, domain
    )
    ends = Controls(of_input.model, of_const.model)
    beside = _another(denoiser, host, device)
    random_phi = RandomPhi.of(denoiser, parts.slices, dose=config.dose, seed=train_seed)
    if controls == "full":
        random_phi = random_phi.trained(parts, splits, target, domain)
    result = examine(
        zip(found, checks, strict=True),
        denoiser=denoiser,
        subject=subject,
        controls=ends,
        beside=beside,
        low=low,
        target=target,
        slices=parts.slices,
        config=config,
        samples=samples,
        seed=seed,
        domain=domain,
        refine=count,
        random_phi=random_phi,
        memory=limit,
        say=say,
    )
    result.provenance["representation"] = representation
    result = replace(
        result, sampler=sampler, warnings=(*_experimental(sampler, representation), *result.warnings)
    )
    result.provenance["sampler"] = sampler
    add_plugin_metrics(result, host)
    return result


def _experimental(sampler: Sampler, representation: Representation) -> tuple[str, ...]:
    """Return a warning where samples come from a model that was hardly measured at full size yet."""
    chosen = {
        "sampler 'residual'": sampler == "residual",
        f"representation {representation!r}": representation != "vae",
    }
    return tuple(
        f"The {name} is experimental: how its samples compare with those of the default at full size was measured for few layers. "
        "What is certified holds all the same."
        for name, used in chosen.items()
        if used
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
                f"{denoiser.name} names no layers, so 'all' stands for none: name modules instead"
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


def add_plugin_metrics(result: AnalysisResult, host: PluginHost) -> None:
    """Compute the plugins' metrics and put them beside the first layer's figures, under their own names.

    A metric that fails costs the user neither the analysis nor the others: its entry says so.
    """
    for metric in host.metrics().values():
        try:
            value = metric.compute(result)
        except Exception as error:
            # The message of a stranger's error may quote anything, so only its kind is kept.
            result.metrics[metric.name] = None
            warnings.warn(f"metric {metric.name} failed: {type(error).__name__}", stacklevel=2)
        else:
            result.metrics[metric.name] = dict(value) if isinstance(value, Mapping) else float(value)
