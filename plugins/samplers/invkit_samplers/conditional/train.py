"""The VAE that is given f(x), of a denoiser, from slices to a file."""

__all__ = ["ConditionalVaeRequest", "ConditionalVaeTraining", "TrainedConditional", "load_conditional"]

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from invkit import ArtifactError, LoadedDenoiser
from invkit.samplers import CodeRequest, CodeTraining, FitResult, read_network
from invkit_samplers.conditional.code import ConditionalConfig, ConditionalVae
from invkit_samplers.conditional.fit import (
    CHUNK,
    ConditionalTask,
    GivenPatches,
    conditional_figures,
    given_patches,
    rival_figures,
)


@dataclass(frozen=True)
class TrainedConditional:
    """A trained VAE that is given f(x).

    Args:
        vae: in eval mode, float32.
        others: f(x) of training patches, `(n, 1, patch, patch)`, HU.
        meta: provenance and held-out figures.
        sha256: of the file it was stored in.
    """

    vae: ConditionalVae
    others: Tensor
    meta: dict[str, Any]
    sha256: str


@dataclass(frozen=True)
class ConditionalVaeRequest(CodeRequest[ConditionalConfig]):
    """What decides how a VAE that is given f(x) comes out.

    Args:
        denoiser: f; given f(x) are both the codes of x and those of its high-dose partner y.
    """

    kind, stream = "conditional-vae", "conditional"

    denoiser: LoadedDenoiser = field(kw_only=True)

    def describe(self) -> dict[str, Any]:
        """Return the request as JSON values; its fingerprint is the key of the result."""
        return {
            **super().describe(),
            "f": {"denoiser": self.denoiser.name, "sha256": self.denoiser.sha256},
            "config": self.config.model_dump(mode="json", exclude={"rows"}),
        }


class ConditionalVaeTraining(CodeTraining[ConditionalConfig, ConditionalVae]):
    """One run from nothing to a file, which keeps some f(x), too, for the draws of `const`."""

    request: ConditionalVaeRequest
    stage = "VAE given f(x)"

    def build(self) -> ConditionalVae:
        """Return E and D."""
        return ConditionalVae(self.config)

    def task(self, vae: ConditionalVae, identity: str) -> ConditionalTask:
        """Return what trains them, on patches whose f(x) is computed here, once."""
        config = self.config
        self.given, self.tested = (
            given_patches(
                self.request.denoiser,
                source,
                self.domain,
                count,
                device=self.device,
                progress=self.progress,
                stage=f"{self.stage} ({self.domain} dose): patches, {part}",
            )
            for source, count, part in (
                (self.train, config.patches, "train"),
                (self.held_out, max(config.held_out, 2 * CHUNK), "validation"),
            )
        )
        return ConditionalTask(vae, self.given, self.tested, seed=self.seed, identity=identity)

    def measure(self, vae: ConditionalVae, result: FitResult) -> dict[str, Any]:
        """Return what they keep of held-out patches, and what f(x) alone, and with principal components, does."""
        count = self.config.held_out
        tested = GivenPatches(self.tested.x[:count], self.tested.f_x[:count])
        figures = {
            **conditional_figures(vae, tested),
            "numbers": self.config.d,
            **rival_figures(vae, self.given, tested, self.seed),
        }
        return {"seconds": result.seconds, "held_out": figures}

    def tensors(self) -> Mapping[str, Tensor]:
        """Return f(x) of some training patches."""
        return {"others": self.given.f_x[: self.config.others]}


def load_conditional(path: Path, *, sha256: str | None = None, device: str = "cpu") -> TrainedConditional:
    """Read a VAE in eval mode, float32, without gradients on its parameters.

    Raises:
        ArtifactError: missing, changed by a bit, of another kind, or not what its own config describes.
    """
    vae, stored = read_network(
        path, ConditionalVaeRequest.kind, ConditionalConfig, ConditionalVae, sha256=sha256, device=device
    )
    if "others" not in stored.tensors:
        raise ArtifactError(f"{path} holds no images f(x) of others. Train again")
    return TrainedConditional(vae, stored.tensors["others"].float().to(device), stored.meta, stored.sha256)
