"""The slides' five steps as items that any number of processes take: denoisers, VAEs, cINNs, layers, reports."""

__all__ = ["Report", "RunOutcome", "run"]

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import torch

from invkit.analysis.folder import described, layer_items, merged
from invkit.analysis.runs import write_run
from invkit.analysis.specs import ImageSpec, Runtime, SamplingSpec, TrainingSpec
from invkit.analysis.subject import Subject
from invkit.analysis.whole import Analysis
from invkit.artifacts import (
    fingerprint,
    read_sidecar,
    remove_unfinished,
    sha256_file,
    state_fingerprint,
    write_atomic,
)
from invkit.data.patches import Domain, PatchSampler
from invkit.data.slices import SliceSet
from invkit.denoisers.contract import check_contract, probed
from invkit.denoisers.loaded import LoadedDenoiser, load_denoiser
from invkit.denoisers.recipe import Recipe
from invkit.denoisers.spec import Denoiser, Weights
from invkit.errors import ConfigError
from invkit.parts.store import Store
from invkit.plugins.gather import gather
from invkit.plugins.manager import PluginHost
from invkit.split.split import Split
from invkit.training.processes.items import Item, file_name, record_of, work_off
from invkit.training.processes.plan import CONFIG, begin, require_place
from invkit.training.progress import Progress
from invkit.training.seeds import derive_seed
from invkit.workflow.config import CONTROLS, RunConfig
from invkit.workflow.train import features, train_cinn, train_denoiser, train_vae

SCHEMA = "invkit.run.manifest/1"
COMMAND = f"invkit run {CONFIG}"
TAG = "run"
MANIFEST = "manifest.json"


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
        done: the items that this call did; the others had been done before, or by other processes.
        reports: of every denoiser and domain.
    """

    folder: Path
    manifest: Path
    done: tuple[str, ...]
    reports: tuple[Report, ...]


def run(
    config: RunConfig,
    folder: str | Path,
    *,
    device: str = "cpu",
    host: PluginHost | None = None,
    progress: Progress | None = None,
    say: Callable[[str], None] | None = None,
) -> RunOutcome:
    """Do whatever of a configuration is not done yet; the same call goes on after any interruption.

    Processes that are called in the same way share the work, each training and each layer of a report being one process's, and the
    folder comes out the same.

    The folder then holds `config.json`, the denoisers' weights below `denoisers`, VAEs and cINNs below `cache`, a run folder
    for each domain and denoiser below `reports`, `manifest.json`, and the trainings' logs below `logs`.

    Args:
        config: what to do, at which sizes.
        folder: new, empty, or that of an earlier call with the same configuration.
        device: where to compute.
        host: the plugins.
        progress: called as a training goes on.
        say: called with one line for each item.

    Raises:
        ConfigError: the folder holds a run with another configuration or other data, or a recipe lacks a field.
        InvkitError: a denoiser, layer, backbone or data set cannot be used; found before anything is trained.
        DivergedError: a training diverged twice.
        Interrupted: a signal came during a training, whose state was saved first.
    """
    runtime = Runtime.of(host, say, device=device, progress=progress)
    require_place(Path(folder), "run")
    work = _Run(config, Path(folder), runtime)
    work.rehearse()
    plan = begin(
        work.folder,
        config.model_dump(mode="json"),
        "run",
        data=described(work.slices, runtime.host),
        command=COMMAND,
    )
    items = list(work.items())
    last = Item(
        "manifest", "", partial(work.manifest, items, plan.threads), tuple(item.name for item in items)
    )
    done = work_off(work.folder, [*items, last], threads=plan.threads, say=runtime.say)
    # All is done by now, so nobody reads or writes here any more.
    for place in (work.layers, work.unfinished):
        shutil.rmtree(place, ignore_errors=True)
    remove_unfinished(work.folder)
    reports = tuple(
        Report(model, domain, work.report_folder(domain, model) / "report.html")
        for domain in config.domains
        for model in config.denoisers
    )
    return RunOutcome(work.folder, work.folder / MANIFEST, done, reports)


class _Run:
    """The items of one run, and what they need."""

    def __init__(self, config: RunConfig, folder: Path, runtime: Runtime) -> None:
        self.config, self.folder, self.runtime = config, folder, runtime
        self.cache, self.layers = folder / "cache", folder / "layers"
        self.unfinished = self.cache / "unfinished"
        self.specs = {model: self._spec(model) for model in config.denoisers}
        self.recipes = {model: self._recipe(spec) for model, spec in self.specs.items()}
        self._analyses: dict[tuple[Domain, str], Analysis] = {}

    @cached_property
    def slices(self) -> SliceSet:
        """What is trained on."""
        config, host = self.config, self.runtime.host
        return gather(config.data, host, config.seed, config.noise, Store(host).root)

    def rehearse(self) -> None:
        """Meet now, before hours of training, whatever would end the run later."""
        for part in ("train", "validation", "test"):
            PatchSampler(self.slices.part(part), 16)
        probe = torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(0)) * 100
        for model, chosen in self.config.denoisers.items():
            untrained = probed(load_denoiser(self.specs[model], untrained_seed=0))
            check_contract(untrained, probe)
            for layer in chosen.layers:
                Split(untrained, layer).check(probe)
            if not self._weights(model).exists():
                features(self.runtime.host, self.recipes[model].perceptual)

    def items(self) -> Iterator[Item]:
        """Yield everything but the manifest, in the order of the slides."""
        models = self.config.denoisers
        for model in models:
            key = fingerprint(self.recipes[model].describe())
            yield Item(f"denoiser {model}", key, partial(self.train_denoiser, model))
        yield Item("vae low", "", partial(self.train_vae, "low"))
        for domain in self.config.domains:
            if domain == "high":
                yield Item("vae high", "", partial(self.train_vae, "high"))
            # A control is the same for every denoiser; any of them can carry it.
            first = next(iter(models))
            controls = [
                self._cinn(domain, first, control, f"cinn {domain} {control}") for control in CONTROLS
            ]
            yield from controls
            for model, chosen in models.items():
                cinns = [
                    self._cinn(domain, model, layer, f"cinn {domain} {model} {layer}")
                    for layer in chosen.layers
                ]
                yield from cinns
                needs = ["vae low", *cinns[0].needs, *(item.name for item in (*controls, *cinns))]
                yield from self._report(domain, model, list(dict.fromkeys(needs)))

    def _cinn(self, domain: Domain, model: str, layer: str, name: str) -> Item:
        needs = (f"denoiser {model}", f"vae {domain}")
        return Item(name, "", partial(self.train_cinn, name, domain, model, layer), needs)

    def _report(self, domain: Domain, model: str, needs: Sequence[str]) -> Iterator[Item]:
        names, place = self.config.denoisers[model].layers, self.layers / domain / model
        analysis = partial(self.analysis, domain, model)
        layers = layer_items(analysis, names, place, needs=needs, label=f"{domain} {model} ")
        yield from layers

        def report() -> Sequence[Path]:
            found = merged(analysis(), place)
            trained = tuple(replace(layer, trained="trained") for layer in found.layers)
            folder = self.report_folder(domain, model)
            result = replace(found, layers=trained)
            # Without a time, so that the same run has the same bytes.
            return write_run(result, folder, created="", command=COMMAND, host=self.runtime.host).files

        yield Item(f"report {domain} {model}", "", report, tuple(item.name for item in layers))

    def train_denoiser(self, model: str) -> list[Path]:
        """Train a denoiser by its recipe; return its files."""
        config, chosen, runtime = self.config, self.config.denoisers[model].recipe, self.runtime
        work = self.unfinished / f"denoiser-{file_name(model)}"
        path = train_denoiser(
            self.specs[model],
            out=self._weights(model),
            train_data=self.slices,
            preset=chosen.preset,
            changes=chosen.changes,
            dose=config.dose,
            seed=config.seed,
            device=runtime.device,
            work=work,
            host=runtime.host,
            progress=runtime.progress,
        )
        return self._kept(path, work, f"denoiser {model}")

    def train_vae(self, domain: Domain) -> list[Path]:
        """Train the VAE of a domain; return its files."""
        config, runtime = self.config, self.runtime
        path = train_vae(
            domain,
            train_data=self.slices,
            preset=config.vae,
            dose=config.dose,
            seed=config.seed,
            device=runtime.device,
            cache=self.cache,
            host=runtime.host,
            progress=runtime.progress,
        )
        return self._kept(path, self._work(path), f"vae {domain}")

    def train_cinn(self, name: str, domain: Domain, model: str, layer: str) -> list[Path]:
        """Train the cINN of a layer or control; return its files."""
        config, runtime = self.config, self.runtime
        path = train_cinn(
            self._denoiser(model),
            layer,
            domain=domain,
            train_data=self.slices,
            preset=config.layer,
            vae_preset=config.vae,
            seed=config.seed,
            device=runtime.device,
            cache=self.cache,
            host=runtime.host,
            progress=runtime.progress,
        )
        return self._kept(path, self._work(path), name)

    def analysis(self, domain: Domain, model: str) -> Analysis:
        """Return the analysis of a denoiser's layers on the test images, in a domain."""
        if (domain, model) not in self._analyses:
            config, chosen = self.config, self.config.denoisers[model]
            self._analyses[domain, model] = Analysis(
                self._denoiser(model),
                chosen.layers,
                ImageSpec(self.subject),
                SamplingSpec(
                    samples=config.samples,
                    refine=config.refine,
                    domain=domain,
                    seed=config.seed,
                ),
                TrainingSpec(
                    self.slices,
                    seed=config.seed,
                    config=config.layer,
                    vae_preset=config.vae,
                    cache=self.cache,
                ),
                self.runtime,
            )
        return self._analyses[domain, model]

    @cached_property
    def subject(self) -> Subject:
        """The test images: patches of patients that nothing was trained on."""
        images, dose = self.config.images, self.config.dose
        seed = derive_seed(self.config.seed, "run", "images")
        sampler = PatchSampler(self.slices.part("test"), images.size, dose=dose, seed=seed, augment=False)
        batch = sampler.batch(0, images.count)
        what = f"{images.count} patches of {images.size} x {images.size} pixels of held-out patients"
        return Subject(
            batch.x,
            batch.y,
            tuple(batch.noise.tolist()),
            f"{what}, their dose reduced to {dose:g} by simulation",
            state_fingerprint({"x": batch.x}),
        )

    def manifest(self, items: Sequence[Item], threads: int) -> list[Path]:
        """Write which files there are. No time stands in it, so the same run has the same manifest."""
        records = {item.name: record_of(self.folder, item.name) or {} for item in items if not item.passing}
        stated = {
            "schema": SCHEMA,
            "config": sha256_file(self.folder / CONFIG),
            "data": described(self.slices, self.runtime.host),
            "threads": threads,
            "items": {
                name: {field: record[field] for field in ("invkit", "torch", "files")}
                for name, record in records.items()
            },
        }
        path = self.folder / MANIFEST
        write_atomic(path, json.dumps(stated, indent=1, allow_nan=False).encode())
        return [path]

    def report_folder(self, domain: Domain, model: str) -> Path:
        """Return where the report on a denoiser in a domain lies, with its samples."""
        return self.folder / "reports" / domain / file_name(model)

    def _spec(self, model: str) -> Denoiser:
        spec, tag = self.runtime.host.denoiser(model)
        if tag is not None:
            raise ConfigError(f"denoisers.{model} names weights, but a run trains its own: write {spec.name}")
        if spec.recipe is None:
            raise ConfigError(f"denoisers.{model} cannot be trained: its plugin provides no recipe")
        return spec

    def _recipe(self, spec: Denoiser) -> Recipe:
        assert spec.recipe is not None
        return self.config.denoisers[spec.name].recipe.applied(spec.recipe, model=spec.name)

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
        loaded = load_denoiser(replace(self.specs[model], weights=(weights,)), device=self.runtime.device)
        return probed(loaded)

    def _weights(self, model: str) -> Path:
        return self.folder / "denoisers" / f"{file_name(model)}.safetensors"

    def _work(self, path: Path) -> Path:
        """Return where a part of the cache was trained."""
        return self.unfinished / f"{path.parent.name}-{path.stem}"

    def _kept(self, path: Path, work: Path, name: str) -> list[Path]:
        """Keep the logs of a training, which hold times, and remove its checkpoints; return its files."""
        for number, log in enumerate(sorted(work.rglob("metrics.jsonl")), 1):
            place = self.folder / "logs" / f"{'-'.join(map(file_name, name.split(' ')))}-{number}.jsonl"
            write_atomic(place, log.read_bytes())
        shutil.rmtree(work, ignore_errors=True)
        return [path, path.with_suffix(".json")]
