"""The slides' five steps in one resumable go: denoisers, VAE, cINNs, samples and report, target domain."""

__all__ = ["Report", "RunOutcome", "run"]

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from invkit.analysis.journal import Journal
from invkit.artifacts import write_atomic
from invkit.data.patches import Domain, PatchSampler
from invkit.denoisers.loaded import check_contract, load_denoiser
from invkit.parts.store import Store
from invkit.parts.workshop import silent
from invkit.plugins.manager import PluginHost, default_host
from invkit.split.split import Split
from invkit.training.device import usable_device
from invkit.training.lock import exclusive
from invkit.training.processes.distributed import barrier, broadcast_json, current_shard
from invkit.training.processes.sharing import share_out
from invkit.training.progress import Progress
from invkit.workflow.config import CONTROLS, RunConfig
from invkit.workflow.steps import RunParts, file_name, layer_name
from invkit.workflow.train import features


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
        parts = RunParts(config, folder, device, host or default_host(), progress, say or silent)
        return _Run(parts).outcome()


class _Run:
    def __init__(self, parts: RunParts) -> None:
        self.parts = parts
        self.config, self.folder, self.host, self.say = parts.config, parts.folder, parts.host, parts.say
        self.steps = list(self._plan())
        self.journal = Journal(
            self.folder,
            config=self.config.model_dump(mode="json"),
            steps=[step.name for step in self.steps],
        )
        self.slices = parts.slices

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
            Report(model, domain, self.parts.report_folder(domain, model) / "report.html")
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
            self.parts.store = Store(self.host, self._work(step))
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
                partial(self.parts.train_denoiser, model),
                self.parts.recipes[model].describe(),
            )
        yield Step("vae low", (), partial(self.parts.train_vae, "low"))
        for domain in self.config.domains:
            if domain == "high":
                yield Step("vae high", (), partial(self.parts.train_vae, "high"))
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
                    partial(self.parts.report, domain, model),
                )

    def _layer_step(self, domain: Domain, model: str | None, layer: str) -> Step:
        needs = (f"vae {domain}",) if model is None else (f"vae {domain}", f"denoiser {model}")
        act = partial(self.parts.train_layer, domain, model, layer)
        return Step(layer_name(domain, model, layer), needs, act)

    def _rehearse(self) -> None:
        """Meet now, before hours of training, whatever would end the run later."""
        for part in ("train", "validation", "test"):
            PatchSampler(self.slices.part(part), 16)
        probe = torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(0)) * 100
        for model, chosen in self.config.denoisers.items():
            untrained = load_denoiser(self.parts.specs[model], untrained_seed=0)
            check_contract(untrained, probe)
            for layer in chosen.layers:
                Split(untrained, layer, allow_bypass=chosen.allow_bypass).check(probe)
            if not self.journal.files(f"denoiser {model}"):
                features(self.host, self.parts.recipes[model].perceptual)

    def _keep_logs(self, step: Step) -> None:
        """Copy the logs of a step's trainings; they hold times, so the manifest leaves them out."""
        place = self.folder / "logs" / step.place
        for number, path in enumerate(sorted(self._work(step).rglob("metrics.jsonl")), 1):
            write_atomic(place.with_name(f"{place.name}-{number}.jsonl"), path.read_bytes())

    def _work(self, step: Step) -> Path:
        return self.folder / "work" / step.place
