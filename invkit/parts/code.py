"""What the VAEs of all samplers share: the request for one, and how it is learned from slices and kept."""

__all__ = ["CodeRequest", "CodeTraining", "learn_code"]

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, TypeVar

import torch
from torch import Tensor, nn

from invkit import artifacts
from invkit._version import __version__
from invkit.data.patches import Domain, PatchSampler
from invkit.data.slices import SliceSet, split_meta
from invkit.parts.store import Store
from invkit.training.engine import fit
from invkit.training.progress import Progress
from invkit.training.seeds import derive_seed, seeded
from invkit.training.task import FitResult, Task
from invkit.vae.fitting import fit_config, halves
from invkit.vae.vae import CodeConfig

Config = TypeVar("Config", bound=CodeConfig)
Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True)
class CodeRequest(Generic[Config]):
    """What decides how a VAE comes out.

    Args:
        domain: `"low"` for codes of low-dose images x, `"high"` for those of high-dose images y.
        slices: what is trained on.
        config: architecture, sizes, steps.
        dose: of the low-dose images, as a fraction of the slices' own.
        seed: decides every random number.
    """

    kind: ClassVar[str]
    # Names its random numbers.
    stream: ClassVar[str]

    domain: Domain
    slices: SliceSet
    config: Config
    dose: float = 0.25
    seed: int = 0

    def describe(self) -> dict[str, Any]:
        """Return the request as JSON values; its fingerprint is the key of the result."""
        return {
            "kind": self.kind,
            "domain": self.domain,
            "slices": self.slices.fingerprint,
            "config": self.config.model_dump(mode="json"),
            "dose": self.dose,
            "seed": self.seed,
        }

    def sampler(self, part: Literal["train", "validation"]) -> PatchSampler:
        """Return the patches of one part of the slices."""
        seed = derive_seed(self.seed, self.stream, part)
        return PatchSampler(self.slices.part(part), self.config.patch, dose=self.dose, seed=seed)


class CodeTraining(Generic[Config, Network]):
    """One training from the start to a file, resumable; subclasses define what is trained, and how.

    Args:
        request: what to train.
        work: folder of the run.
        device: where it trains.
        progress: called as the training goes on.
    """

    stage: ClassVar[str] = "VAE"
    """What progress calls it."""
    start: ClassVar[str] = "vae."
    """What the names of the network's tensors begin with in the file."""

    def __init__(
        self,
        request: CodeRequest[Config],
        work: Path,
        *,
        device: str = "cpu",
        progress: Progress | None = None,
    ) -> None:
        self.request, self.config, self.domain = request, request.config, request.domain
        self.work, self.device, self.progress = work, torch.device(device), progress
        self.train, self.held_out = request.sampler("train"), request.sampler("validation")
        self.seed = derive_seed(request.seed, request.stream, request.domain)

    def build(self) -> Network:
        """Return the network as it is before anything is learned; torch's global generator is seeded here."""
        raise NotImplementedError

    def task(self, vae: Network, identity: str) -> Task:
        """Return the task that trains the network, which is on the device; `identity` names network and data."""
        raise NotImplementedError

    def measure(self, vae: Network, result: FitResult) -> dict[str, Any]:
        """Return the network's own entries of the file's provenance; under `"held_out"` the figures on held-out patches.

        The network is as it will be read again: rounded to fp16, in eval mode.
        """
        raise NotImplementedError

    def tensors(self) -> Mapping[str, Tensor]:
        """Return what the file holds besides the network."""
        return {}

    def run(self, key: str) -> Callable[[Path], object]:
        """Train and measure; return what writes the file.

        Raises:
            DivergedError: the training diverged twice, or the posterior collapsed.
        """
        request = self.request
        parameters = derive_seed(self.seed, request.stream, "parameters")
        vae = seeded(self.build, parameters).to(self.device)
        result = fit(
            self.task(vae, key),
            fit_config(self.config, seed=self.seed),
            self.work,
            progress=self.progress,
            device=self.device,
            stage=f"{self.stage} ({self.domain} dose)",
        )
        vae.half().float().eval()
        own = self.measure(vae, result)
        meta = {
            "data": {
                "fingerprint": self.train.slices.fingerprint,
                "description": self.train.slices.description,
                "dose": self.train.dose,
                "seed": self.train.seed,
            },
            "steps": result.steps,
            "precision": result.precision,
            "processes": result.processes,
            "exact": result.exact,
            **own,
            "held_out": {"description": self.held_out.slices.description, **own["held_out"]},
            "invkit": __version__,
            **request.describe(),
            "key": key,
            "trained_on": request.slices.description,
            **split_meta(request.slices),
        }
        tensors = {**halves(vae, self.start), **self.tensors()}
        return lambda path: artifacts.save(path, tensors, kind=request.kind, meta=meta)


def learn_code(
    training: type[CodeTraining[Config, Network]],
    request: CodeRequest[Config],
    store: Store,
    *,
    out: Path | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
) -> Path:
    """Train the VAE of a request and keep it; return its file. An interrupted training resumes where it stopped.

    Args:
        training: trains it.
        request: what to train.
        store: where it is kept.
        out: the file to write instead of the cache's own.
        device: where to train.
        progress: called as the training goes on.

    Raises:
        DivergedError: the training diverged twice, or the posterior collapsed.
    """

    def learn(work: Path, key: str) -> Callable[[Path], object]:
        return training(request, work, device=device, progress=progress).run(key)

    return store.keep(request.describe(), learn, out=out)
