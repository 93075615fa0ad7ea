"""Training by command: denoisers, VAEs and cINNs, each from slices to a file with its provenance."""

__all__ = ["train_cinn", "train_denoiser", "train_vae"]

from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import torch
from torch import nn

from invkit import artifacts
from invkit._version import __version__
from invkit.analysis.specs import Runtime, TrainingSpec
from invkit.data.patches import Domain, PatchSampler
from invkit.data.slices import NoiseModel, split_meta
from invkit.denoisers.loaded import LoadedDenoiser
from invkit.denoisers.recipe import Perceptual
from invkit.denoisers.spec import Denoiser
from invkit.denoisers.task import DenoiserTask
from invkit.errors import UsageError, require_choice
from invkit.parts.config import LayerConfig
from invkit.parts.layer import KIND, learn_layer
from invkit.parts.preset_file import preset_label, recipe_preset
from invkit.parts.preset_file import vae_preset as chosen_vae
from invkit.parts.store import Store
from invkit.parts.vae import VaeRequest, learn_vae
from invkit.plugins.gather import DataSpecs, gather
from invkit.plugins.load import load
from invkit.plugins.manager import PluginHost, default_host
from invkit.samplers.vae.family import Vae
from invkit.split.split import Split
from invkit.training.device import usable_device
from invkit.training.engine import fit
from invkit.training.processes.distributed import by_first
from invkit.training.progress import Progress
from invkit.training.seeds import derive_seed, seeded
from invkit.training.task import FitConfig
from invkit.vae.vae import VaeConfig


def train_denoiser(
    model: str | Denoiser,
    *,
    out: Path,
    train_data: DataSpecs = None,
    noise: NoiseModel = "physical",
    preset: str = "default",
    changes: Mapping[str, Any] | None = None,
    dose: float = 0.25,
    seed: int = 0,
    backbone: str | None = None,
    device: str = "cpu",
    work: Path | None = None,
    host: PluginHost | None = None,
    progress: Progress | None = None,
) -> Path:
    """Train a denoiser by its plugin's recipe and write its weights with their provenance.

    An interrupted training resumes when called again with the same arguments.

    Args:
        model: name of a denoiser, or its description.
        out: the safetensors file to write.
        train_data: `"phantoms"` or paths to slices; `None` for phantoms.
        noise: how low dose is simulated: `"physical"`, in the projection domain, or `"image"`, stationary noise.
        preset: of the recipe, or the path of a TOML file with its fields.
        changes: further changes to the recipe's fields.
        dose: of the low-dose images, as a fraction of the slices' own.
        seed: for all random numbers.
        backbone: overrides the recipe's perceptual backbone.
        device: where to train.
        work: folder for checkpoints; by default one in the cache, named after what is trained.
        host: the plugins.
        progress: called as the training proceeds.

    Returns:
        `out`.

    Raises:
        UsageError: the denoiser has no recipe.
        DivergedError: the training diverged twice.
    """
    device, host = usable_device(device), host or default_host()
    spec = host.denoiser(model)[0] if isinstance(model, str) else model
    if spec.recipe is None:
        raise UsageError(f"{spec.name} has no training recipe: its plugin provides none")
    recipe = recipe_preset(spec.recipe, preset).changed(changes or {})
    if backbone is not None and recipe.perceptual is not None:
        recipe = recipe.changed({"perceptual": Perceptual(recipe.perceptual.weight, backbone)})
    store = Store(host)
    slices = gather(train_data, host, seed, noise, store.root)
    request = {
        "kind": "denoiser",
        "name": spec.name,
        "recipe": recipe.describe(),
        "preprocessing": spec.preprocessing.describe(),
        "data": slices.fingerprint,
        "dose": dose,
        "seed": seed,
    }
    key = store.key(request)
    torch_seed = derive_seed(seed, "denoiser", spec.name)
    network = seeded(spec.build, torch_seed)
    task = DenoiserTask(
        network,
        spec.preprocessing,
        recipe,
        PatchSampler(slices.part("train"), recipe.patch, dose=dose, seed=derive_seed(seed, "train")),
        PatchSampler(
            slices.part("validation"), recipe.patch, dose=dose, seed=derive_seed(seed, "validation")
        ),
        seed=torch_seed,
        backbone=features(host, recipe.perceptual),
        device=device,
    )
    config = FitConfig(
        steps=recipe.steps,
        seed=torch_seed,
        checkpoint_every=max(1, min(250, recipe.steps // 4)),
        evaluate_every=max(1, recipe.steps // 20),
    )
    result = fit(task, config, work or store.work("denoiser", key), progress=progress, device=device)
    meta = {
        **request,
        "key": key,
        "preset": preset_label(preset),
        "steps": result.steps,
        "precision": result.precision,
        "processes": result.processes,
        "trained_on": slices.description,
        **split_meta(slices),
        "held_out": result.metrics,
        "invkit": __version__,
        "torch": str(torch.__version__),
    }
    by_first(lambda: artifacts.save(out, network.state_dict(), kind="denoiser", meta=meta))
    return out


def train_vae(
    domain: Domain = "low",
    *,
    out: Path | None = None,
    train_data: DataSpecs = None,
    noise: NoiseModel = "physical",
    preset: str | VaeConfig = "default",
    dose: float = 0.25,
    seed: int = 0,
    device: str = "cpu",
    cache: str | Path | None = None,
    host: PluginHost | None = None,
    progress: Progress | None = None,
) -> Path:
    """Train the VAE-WGAN that encodes images of one dose; return its file.

    Args:
        domain: `"low"` for low-dose images, `"high"` for full-dose ones.
        out: the safetensors file to write; by default one in the cache, where `analyze` finds it.
        train_data: `"phantoms"` or paths to slices; `None` for phantoms.
        noise: how low dose is simulated: `"physical"`, in the projection domain, or `"image"`, stationary noise.
        preset: `default`, `paper`, `ldct-benchmark`, `tiny`, the path of a TOML file, or a configuration.
        dose: of the low-dose images, as a fraction of the slices' own.
        seed: for all random numbers.
        device: where to train.
        cache: folder for trained parts; by default the user's cache.
        host: the plugins.
        progress: called as the training proceeds.

    Raises:
        DivergedError: the training diverged twice, or the posterior collapsed.
    """
    require_choice("domain", domain, get_args(Domain))
    device, host = usable_device(device), host or default_host()
    store = Store(host, None if cache is None else Path(cache))
    slices = gather(train_data, host, seed, noise, store.root)
    request = VaeRequest(domain, slices, chosen_vae(preset), dose, seed)
    return learn_vae(request, store, out=out, device=device, progress=progress)


def train_cinn(
    model: str | Denoiser | LoadedDenoiser | nn.Module,
    layer: str | None = None,
    *,
    domain: Domain = "low",
    out: Path | None = None,
    train_data: DataSpecs = None,
    noise: NoiseModel = "physical",
    preset: str | LayerConfig = "default",
    vae_preset: str | VaeConfig = "default",
    seed: int = 0,
    device: str = "cpu",
    cache: str | Path | None = None,
    allow_bypass: bool = False,
    host: PluginHost | None = None,
    progress: Progress | None = None,
) -> Path:
    """Train the cINN of one layer, or of a control, and with it whatever VAE is missing; return its file.

    Args:
        model: name of a denoiser, its description, or any `nn.Module`.
        layer: as `invkit.analyze` takes it.
        domain: `"low"` or `"high"`: which images are sampled.
        out: the safetensors file to write; by default one in the cache, where `analyze` finds it.
        train_data: paths to slices, or `None` for phantoms.
        noise: how low dose is simulated: `"physical"`, in the projection domain, or `"image"`, stationary noise.
        preset: `default`, `paper`, `ldct-benchmark`, `eulig`, `tiny`, the path of a TOML file, or a configuration.
        vae_preset: of a VAE that has to be trained, as in `train_vae`.
        seed: for all random numbers.
        device: where to train.
        cache: folder for trained parts; by default the user's cache.
        allow_bypass: no longer needed, and without effect: any layer is analysed.
        host: the plugins.
        progress: called as the training proceeds.

    Raises:
        SplitError: the layer cannot be used.
        DivergedError: a training diverged twice.
    """
    require_choice("domain", domain, get_args(Domain))
    runtime = Runtime.of(host, None, device=device, progress=progress)
    config = preset if isinstance(preset, LayerConfig) else LayerConfig.preset(preset)
    training = TrainingSpec(train_data, noise, seed, config, vae_preset, cache)
    workshop = training.workshop(runtime)
    denoiser = load(model, device=runtime.device, host=runtime.host)
    split = Split(denoiser, denoiser.spec.default_layer if layer is None else layer)
    request = Vae().request(split, domain, workshop)
    sampler = PatchSampler(request.slices.part("validation"), request.vae.vae.config.patch)
    split.check(sampler.batch(0, 2).x.to(runtime.device))
    path = out or workshop.store.path(KIND, workshop.store.key(request.describe()))
    learn_layer(request, workshop.store, out=out, progress=progress)
    return path


def features(host: PluginHost, perceptual: Perceptual | None) -> nn.Module | None:
    """Return the backbone a recipe's perceptual term asks for."""
    if perceptual is None:
        return None
    return host.backbone(perceptual.backbone).build()
