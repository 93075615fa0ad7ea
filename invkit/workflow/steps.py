"""What a run trains and reads back: denoisers, VAEs, layers and reports, each at its place in the run's folder."""

__all__ = ["RunParts", "file_name", "layer_name"]

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path

from invkit.analysis.examine import examine
from invkit.analysis.presentation import report_data
from invkit.analysis.specs import Runtime, SamplingSpec
from invkit.analysis.study import Study
from invkit.analysis.subject import Subject
from invkit.artifacts import fingerprint, read_sidecar, state_fingerprint
from invkit.data.patches import Domain, PatchSampler
from invkit.data.slices import SliceSet
from invkit.denoisers.loaded import LoadedDenoiser, check_contract, load_denoiser
from invkit.denoisers.recipe import Recipe
from invkit.denoisers.spec import Denoiser, Weights
from invkit.errors import ConfigError
from invkit.measures.comparison import Controls
from invkit.parts.layer import LayerRequest, learn_layer, load_layer
from invkit.parts.store import Store
from invkit.parts.vae import VaeRequest, learn_vae
from invkit.parts.workshop import Workshop
from invkit.plugins.gather import gather
from invkit.plugins.manager import PluginHost
from invkit.report.write import write_report
from invkit.samplers.family import FoundLayer
from invkit.sampling.base import LayerModel
from invkit.split.check import SplitReport
from invkit.split.split import Split
from invkit.training.progress import Progress
from invkit.training.seeds import derive_seed
from invkit.vae.trained import TrainedVae, load_vae
from invkit.workflow.config import CONTROLS, RunConfig
from invkit.workflow.train import train_denoiser

TAG = "run"
COMMAND = "invkit run config.json"


class RunParts:
    """The parts of one run: `train_` methods and `report` write files and return their paths, the others read them back.

    Args:
        config: what is trained, at which sizes.
        folder: the run's.
        device: where to compute.
        host: the plugins.
        progress: called as a training goes on.
        say: called with one line for each thing of note.

    Attributes:
        store: keeps unfinished trainings; `run` sets one for each step.

    Raises:
        ConfigError: a denoiser cannot be trained, or its recipe lacks a field.
    """

    def __init__(
        self,
        config: RunConfig,
        folder: Path,
        device: str,
        host: PluginHost,
        progress: Progress | None,
        say: Callable[[str], None],
    ) -> None:
        self.config, self.folder, self.device = config, folder, device
        self.host, self.progress, self.say = host, progress, say
        self.specs = {model: self._spec(model) for model in config.denoisers}
        self.recipes = {model: self._recipe(spec) for model, spec in self.specs.items()}
        self.store = Store(host, folder / "work")

    @cached_property
    def slices(self) -> SliceSet:
        """What is trained on, gathered when it is first asked for."""
        config = self.config
        return gather(config.data, self.host, config.seed, config.noise, Store(self.host).root)

    def _spec(self, model: str) -> Denoiser:
        spec, tag = self.host.denoiser(model)
        if tag is not None:
            raise ConfigError(f"denoisers.{model} names weights, but a run trains its own: write {spec.name}")
        if spec.recipe is None:
            raise ConfigError(f"denoisers.{model} cannot be trained: its plugin brings no recipe")
        return spec

    def _recipe(self, spec: Denoiser) -> Recipe:
        assert spec.recipe is not None
        return self.config.denoisers[spec.name].recipe.applied(spec.recipe, model=spec.name)

    def train_denoiser(self, model: str) -> list[Path]:
        """Train a denoiser by its recipe."""
        chosen = self.config.denoisers[model].recipe
        return with_sidecar(
            train_denoiser(
                self.specs[model],
                out=self._weights(model),
                train_data=self.slices,
                preset=chosen.preset,
                changes=chosen.changes,
                dose=self.config.dose,
                seed=self.config.seed,
                device=self.device,
                work=self.store.root / "denoiser",
                host=self.host,
                progress=self.progress,
            )
        )

    def train_vae(self, domain: Domain) -> list[Path]:
        """Train the VAE of a domain."""
        config = self.config
        request = VaeRequest(domain, self.slices, config.vae, config.dose, config.seed)
        out = self._vae_path(domain)
        return with_sidecar(
            learn_vae(request, self.store, out=out, device=self.device, progress=self.progress)
        )

    def train_layer(self, domain: Domain, model: str | None, layer: str) -> list[Path]:
        """Train the cINN of a layer of a denoiser, or, with `model=None`, that of a control."""
        request, out = self._request(domain, model, layer), self._layer_path(domain, model, layer)
        learn_layer(request, self.store, out=out, progress=self.progress)
        return with_sidecar(out)

    def report(self, domain: Domain, model: str) -> list[Path]:
        """Sample all layers of a denoiser on the test images, and write report and samples."""
        denoiser, subject = self._denoiser(model), self.subject
        config = self.config
        workshop = Workshop(
            self.store, self.slices, False, config.layer, "default", config.seed, self.device, say=self.say
        )
        domains: tuple[Domain, ...] = ("low", domain)
        for each in domains:
            workshop.learned(("vae", each), "VAE", partial(self._vae, each), partial(self._vae, each))
        study = Study.of(
            denoiser,
            subject,
            check_contract(denoiser, subject.x),
            SamplingSpec(samples=config.samples, refine=config.refine, domain=domain, seed=config.seed),
            workshop,
            controls=Controls(*(self._layer(domain, model, control) for control in CONTROLS)),
        )
        result = examine(study, list(self._found(domain, model)), Runtime.of(self.host, self.say))
        folder = self.report_folder(domain, model)
        paths = []
        for image in range(len(subject.x)):
            place = folder if image == 0 else folder / f"image-{image + 1}"
            written = write_report(place, report_data(result, image=image, command=COMMAND, host=self.host))
            paths += [written.html, written.json, *written.figures]
        samples = folder / "samples.safetensors"
        result.write_samples(samples)
        return [*paths, *with_sidecar(samples)]

    def _found(self, domain: Domain, model: str) -> Iterator[tuple[FoundLayer, SplitReport]]:
        for layer in self.config.denoisers[model].layers:
            found = self._layer(domain, model, layer)
            yield FoundLayer(found.split, found, "trained"), found.split.check(self.subject.x)

    @cached_property
    def subject(self) -> Subject:
        """The test images: patches of patients that nothing was trained on."""
        images, dose = self.config.images, self.config.dose
        seed = derive_seed(self.config.seed, "run", "images")
        sampler = PatchSampler(self.slices.part("test"), images.size, dose=dose, seed=seed, augment=False)
        batch = sampler.batch(0, images.count)
        what = f"{images.count} patches of {images.size} x {images.size} pixels of held-out patients"
        x = batch.x.to(self.device)
        return Subject(
            x,
            batch.y,
            tuple(batch.noise.tolist()),
            f"{what}, their dose reduced to {dose:g} by simulation",
            state_fingerprint({"x": x}),
        )

    def _denoiser(self, model: str) -> LoadedDenoiser:
        """Return a denoiser with the weights that this run has trained."""
        path = self._weights(model)
        weights = Weights(
            tag=TAG,
            source=str(path),
            sha256=read_sidecar(path)["sha256"],
            trained_on=self.slices.description,
            license="that of the training data",
        )
        return load_denoiser(replace(self.specs[model], weights=(weights,)), device=self.device)

    def _vae(self, domain: Domain) -> TrainedVae:
        return load_vae(self._vae_path(domain), device=self.device)

    def _layer(self, domain: Domain, model: str, layer: str) -> LayerModel:
        """Return a trained layer, or a control as the judge of this denoiser."""
        path = self._layer_path(domain, None if layer in CONTROLS else model, layer)
        return load_layer(path, self._request(domain, model, layer))

    def _request(self, domain: Domain, model: str | None, layer: str) -> LayerRequest:
        # A control is the same for every denoiser; any of them can carry it.
        carrier = model or next(iter(self.config.denoisers))
        split = Split(
            self._denoiser(carrier), layer, allow_bypass=self.config.denoisers[carrier].allow_bypass
        )
        return LayerRequest(
            split, self._vae(domain), self.slices, self.config.layer, domain, self.config.seed
        )

    def _weights(self, model: str) -> Path:
        return self.folder / "denoisers" / f"{model}.safetensors"

    def _vae_path(self, domain: Domain) -> Path:
        return self.folder / "vaes" / f"{domain}.safetensors"

    def _layer_path(self, domain: Domain, model: str | None, layer: str) -> Path:
        return self.folder / "cinns" / domain / (model or "controls") / f"{file_name(layer)}.safetensors"

    def report_folder(self, domain: Domain, model: str) -> Path:
        """Return where the report on a denoiser in a domain lies, with its samples."""
        return self.folder / "reports" / domain / model


def layer_name(domain: Domain, model: str | None, layer: str) -> str:
    """Return the name of the step that trains a layer's cINN, or a control's."""
    return f"cinn {domain} {layer if model is None else f'{model} {layer}'}"


def file_name(text: str) -> str:
    """Return a text as a file name: its letters, digits, `-` and `_`, and a hash where that loses anything."""
    plain = "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "-" for c in text)[:60]
    return plain if plain == text else f"{plain}-{fingerprint(text)[:8]}"


def with_sidecar(path: Path) -> list[Path]:
    """Return a trained file and the JSON file beside it."""
    return [path, path.with_suffix(".json")]
