"""The slides' five steps in one resumable go: denoisers, VAE, cINNs, samples and report, target domain."""

__all__ = ["Report", "RunOutcome", "run"]

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch

from invkit.artifacts import fingerprint, read_sidecar, state_fingerprint, write_atomic
from invkit.data.patches import PatchSampler
from invkit.denoisers.loaded import LoadedDenoiser, check_contract, load_denoiser
from invkit.denoisers.recipe import Recipe
from invkit.denoisers.spec import Denoiser, Weights
from invkit.errors import ConfigError
from invkit.pipeline.examine import examine
from invkit.pipeline.gather import gather
from invkit.pipeline.journal import Journal
from invkit.pipeline.ladder import Controls
from invkit.pipeline.parts import FoundLayer, silent
from invkit.pipeline.presentation import report_data
from invkit.pipeline.run_config import CONTROLS, RunConfig
from invkit.pipeline.store import Store
from invkit.pipeline.subject import Subject
from invkit.pipeline.train import features, train_denoiser
from invkit.pipeline.train_layer import LayerRequest, learn_layer, load_layer
from invkit.pipeline.train_vae import Domain, VaeRequest, learn_vae
from invkit.plugins.manager import PluginHost, default_host
from invkit.report.write import write_report
from invkit.representation.trained import TrainedVae, load_vae
from invkit.sampling.model import LayerModel
from invkit.split.check import SplitReport
from invkit.split.split import Split
from invkit.training.device import usable_device
from invkit.training.distributed import barrier, broadcast_json, current_shard
from invkit.training.lock import exclusive
from invkit.training.progress import Progress
from invkit.training.seeds import derive_seed
from invkit.training.sharing import share_out

TAG = "run"
COMMAND = "invkit run config.json"


@dataclass(frozen=True)
class Report:
    """Where the report on one denoiser in one domain lies."""

    model: str
    domain: Domain
    path: Path


@dataclass(frozen=True)
class RunOutcome:
    """What a call of `run` came to.

    Args:
        folder: the run's folder.
        manifest: its manifest with the sha256 of every file.
        done: the steps that this call did; the others had been done before.
        reports: of every denoiser and domain.
    """

    folder: Path
    manifest: Path
    done: tuple[str, ...]
    reports: tuple[Report, ...]


@dataclass(frozen=True)
class Step:
    """One step: what it is called, whose files it reads, and what it does, which returns the files it wrote."""

    name: str
    needs: tuple[str, ...]
    act: Callable[[], list[Path]]
    facts: Mapping[str, Any] | None = None

    @property
    def place(self) -> Path:
        """The name as a relative path."""
        return Path(*map(file_name, self.name.split()))


def run(
    config: RunConfig,
    folder: str | Path,
    *,
    device: str = "cpu",
    host: PluginHost | None = None,
    progress: Progress | None = None,
    say: Callable[[str], None] | None = None,
) -> RunOutcome:
    """Do all steps of a configuration that are not done yet; the same call goes on after any interruption.

    Processes that share the work do the steps that do not need each other side by side, each step in one process, and
    the folder comes out the same.

    The folder then holds `config.json`, the trained weights below `denoisers`, `vaes` and `cinns`, a folder with
    report and samples for each domain and denoiser below `reports`, `manifest.json`, and the trainings' logs below
    `logs`. Unfinished trainings are kept below `work`.

    Args:
        config: what to do, at which sizes.
        folder: new, empty, or that of an earlier call with the same configuration.
        device: where to compute.
        host: the plugins.
        progress: called as a training goes on.
        say: called with one line for each step.

    Raises:
        ConfigError: the folder holds a run with another configuration or other data, or a recipe lacks a field.
        InvkitError: a denoiser, layer, backbone or data set cannot be used; found before anything is trained.
        DivergedError: a training diverged twice.
        Interrupted: a signal came during a training, whose state was saved first.
    """
    device = usable_device(device)
    folder = Path(folder)
    with exclusive(folder, progress=progress, stage="waiting for another run"):
        return _Run(config, folder, device, host or default_host(), progress, say or silent).outcome()


class _Run:
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
        self.steps = list(self._plan())
        self.journal = Journal(
            folder,
            config=config.model_dump(mode="json"),
            steps=[step.name for step in self.steps],
        )
        self.slices = gather(config.data, host, config.seed, config.noise, Store(host).noise)

    def outcome(self) -> RunOutcome:
        """Do what is left."""
        self._rehearse()
        barrier()  # all have looked at the folder before anything is written there
        self._first(
            self.journal.begin,
            {"fingerprint": self.slices.fingerprint, "description": self.slices.description},
        )
        done: list[str] = []
        waiting = list(range(len(self.steps)))
        while waiting:
            ready = self._ready(waiting)
            waiting = [number for number in waiting if number not in ready]
            done += self._do(ready)
        self._first(shutil.rmtree, self.folder / "work", True)
        reports = tuple(
            Report(model, domain, self._report_folder(domain, model) / "report.html")
            for domain in self.config.domains
            for model in self.config.denoisers
        )
        return RunOutcome(self.folder, self.journal.path, tuple(done), reports)

    def _ready(self, waiting: Sequence[int]) -> list[int]:
        """Return the next step, or, where processes share the work, all that need none of those that wait."""
        if current_shard().world == 1:
            return [waiting[0]]
        names = {self.steps[number].name for number in waiting}
        return [number for number in waiting if names.isdisjoint(self.steps[number].needs)]

    def _do(self, numbers: Sequence[int]) -> list[str]:
        """Do steps that do not need each other, each in one process, and return the names of those that were to do."""
        inputs = {
            number: {
                "facts": self.steps[number].facts,
                **{name: self.journal.files(name) for name in self.steps[number].needs},
            }
            for number in numbers
        }
        # The manifest is rank 0's; the others have not seen what has become of it.
        left: list[int] = broadcast_json(
            [n for n in numbers if not self.journal.is_done(self.steps[n].name, inputs[n])]
        )
        for number in numbers:
            title = f"step {number + 1} of {len(self.steps)}, {self.steps[number].name}"
            self.say(title if number in left else f"{title}: done before")

        def act(index: int) -> list[Path]:
            step = self.steps[left[index]]
            self.store = Store(self.host, self._work(step))
            paths = step.act()
            self._keep_logs(step)
            return paths

        # A training is one process's, so that it comes out the same however many there are.
        written = share_out(len(left), act, teams=False, everywhere=True)
        for number, paths in zip(left, written, strict=True):
            step = self.steps[number]
            self._first(self.journal.done, step.name, inputs[number], paths)
            self._first(shutil.rmtree, self._work(step), True)
        barrier()
        return [self.steps[number].name for number in left]

    @staticmethod
    def _first(act: Callable[..., object], *arguments: object) -> None:
        """Call something in rank 0 alone."""
        if current_shard().rank == 0:
            act(*arguments)

    def _plan(self) -> Iterator[Step]:
        """Yield the steps in the order of the slides."""
        models = self.config.denoisers
        for model in models:
            yield Step(
                f"denoiser {model}",
                (),
                partial(self._train_denoiser, model),
                self.recipes[model].describe(),
            )
        yield Step("vae low", (), partial(self._train_vae, "low"))
        for domain in self.config.domains:
            if domain == "high":
                yield Step("vae high", (), partial(self._train_vae, "high"))
            for control in CONTROLS:
                yield self._layer_step(domain, None, control)
            for model, denoiser in models.items():
                for layer in denoiser.layers:
                    yield self._layer_step(domain, model, layer)
            for model, denoiser in models.items():
                cinns = [layer_name(domain, None, control) for control in CONTROLS]
                cinns += [layer_name(domain, model, layer) for layer in denoiser.layers]
                yield Step(
                    f"report {domain} {model}",
                    (f"denoiser {model}", "vae low", f"vae {domain}", *cinns),
                    partial(self._report, domain, model),
                )

    def _layer_step(self, domain: Domain, model: str | None, layer: str) -> Step:
        needs = (f"vae {domain}",) if model is None else (f"vae {domain}", f"denoiser {model}")
        return Step(layer_name(domain, model, layer), needs, partial(self._train_layer, domain, model, layer))

    def _rehearse(self) -> None:
        """Meet now, before hours of training, whatever would end the run later."""
        for part in ("train", "validation", "test"):
            PatchSampler(self.slices.part(part), 16)
        probe = torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(0)) * 100
        for model, chosen in self.config.denoisers.items():
            untrained = load_denoiser(self.specs[model], untrained_seed=0)
            check_contract(untrained, probe)
            for layer in chosen.layers:
                Split(untrained, layer, allow_bypass=chosen.allow_bypass).check(probe)
            if not self.journal.files(f"denoiser {model}"):
                features(self.host, self.recipes[model].perceptual)

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

    def _train_denoiser(self, model: str) -> list[Path]:
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

    def _train_vae(self, domain: Domain) -> list[Path]:
        config = self.config
        request = VaeRequest(domain, self.slices, config.vae, config.dose, config.seed)
        out = self._vae_path(domain)
        return with_sidecar(
            learn_vae(request, self.store, out=out, device=self.device, progress=self.progress)
        )

    def _train_layer(self, domain: Domain, model: str | None, layer: str) -> list[Path]:
        request, out = self._request(domain, model, layer), self._layer_path(domain, model, layer)
        learn_layer(request, self.store, out=out, progress=self.progress)
        return with_sidecar(out)

    def _report(self, domain: Domain, model: str) -> list[Path]:
        """Sample all layers of a denoiser on the test images, and write report and samples."""
        denoiser, subject = self._denoiser(model), self._subject
        result = examine(
            self._found(domain, model),
            denoiser=denoiser,
            subject=subject,
            controls=Controls(*(self._layer(domain, model, control) for control in CONTROLS)),
            low=self._vae("low"),
            target=self._vae(domain),
            slices=self.slices,
            config=self.config.layer,
            samples=self.config.samples,
            seed=self.config.seed,
            domain=domain,
            refine=self.config.refine,
            say=self.say,
        )
        folder = self._report_folder(domain, model)
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
            yield FoundLayer(found, "trained"), found.split.check(self._subject.x)

    @cached_property
    def _subject(self) -> Subject:
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

    def _keep_logs(self, step: Step) -> None:
        """Copy the logs of a step's trainings; they hold times, so the manifest leaves them out."""
        place = self.folder / "logs" / step.place
        for number, path in enumerate(sorted(self._work(step).rglob("metrics.jsonl")), 1):
            write_atomic(place.with_name(f"{place.name}-{number}.jsonl"), path.read_bytes())

    def _work(self, step: Step) -> Path:
        return self.folder / "work" / step.place

    def _weights(self, model: str) -> Path:
        return self.folder / "denoisers" / f"{model}.safetensors"

    def _vae_path(self, domain: Domain) -> Path:
        return self.folder / "vaes" / f"{domain}.safetensors"

    def _layer_path(self, domain: Domain, model: str | None, layer: str) -> Path:
        return self.folder / "cinns" / domain / (model or "controls") / f"{file_name(layer)}.safetensors"

    def _report_folder(self, domain: Domain, model: str) -> Path:
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
