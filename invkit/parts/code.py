"""What the VAEs of all representations share: the request for one, and how it is learned from slices and kept."""

__all__ = ["CodeRequest", "learn_code"]

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, TypeVar

from invkit.data.patches import Domain, PatchSampler
from invkit.data.slices import SliceSet, split_meta
from invkit.parts.store import Store
from invkit.training.progress import Progress
from invkit.training.seeds import derive_seed
from invkit.vae.vae import CodeConfig

Config = TypeVar("Config", bound=CodeConfig)
Trained = TypeVar("Trained", bound=Any)


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


def learn_code(
    request: CodeRequest[Config],
    store: Store,
    train: Callable[..., Trained],
    save: Callable[[Path, Trained, Mapping[str, Any]], object],
    *,
    out: Path | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
) -> Path:
    """Train the VAE of a request and keep it; return its file. An interrupted training goes on where it stopped.

    Args:
        request: what to train.
        store: where it is kept.
        train: trains it from two sources of patches, as `invkit.vae.train.train_vae` does.
        save: writes it with its provenance.
        out: the file to write instead of the cache's own.
        device: where to train.
        progress: called as the training goes on.

    Raises:
        DivergedError: the training diverged twice, or the posterior collapsed.
    """

    def learn(work: Path, key: str) -> Callable[[Path], object]:
        trained = train(
            request.sampler("train"),
            request.sampler("validation"),
            request.config,
            work,
            domain=request.domain,
            seed=derive_seed(request.seed, request.stream, request.domain),
            progress=progress,
            device=device,
        )
        meta = {
            **trained.meta,
            **request.describe(),
            "key": key,
            "trained_on": request.slices.description,
            **split_meta(request.slices),
        }
        return lambda path: save(path, trained, meta)

    return store.keep(request.describe(), learn, out=out)
