"""The representation that is given f(x): a VAE for each denoiser, and a cINN on its codes for each layer."""

__all__ = [
    "ConditionalRequest",
    "ConditionalVaeRequest",
    "find_conditional",
    "find_conditional_vae",
    "learn_conditional",
    "learn_conditional_vae",
    "load_conditional_layer",
]

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from invkit.denoisers.loaded import AT_ONCE, LoadedDenoiser
from invkit.parts.code import CodeRequest, learn_code
from invkit.parts.layer import LayerTraining, learn
from invkit.parts.layer_file import LayerRequest, read_layer
from invkit.parts.store import Store
from invkit.regressor.regressor import Regressor
from invkit.samplers.conditional.code import ConditionalConfig
from invkit.samplers.conditional.fit import KIND as VAE_KIND
from invkit.samplers.conditional.fit import (
    TrainedConditional,
    load_conditional,
    save_conditional,
    train_conditional,
)
from invkit.samplers.conditional.model import ConditionalModel, estimate_and_output
from invkit.split.split import Split
from invkit.training.progress import Progress

KIND = "conditional"


@dataclass(frozen=True)
class ConditionalVaeRequest(CodeRequest[ConditionalConfig]):
    """What decides how a VAE that is given f(x) comes out.

    Args:
        denoiser: f; given f(x) are both the codes of x and those of its high-dose partner y.
    """

    kind, stream = VAE_KIND, "conditional"

    denoiser: LoadedDenoiser = field(kw_only=True)

    def describe(self) -> dict[str, Any]:
        """Return the request as JSON values; its fingerprint is the key of the result."""
        return {
            **super().describe(),
            "f": {"denoiser": self.denoiser.name, "sha256": self.denoiser.sha256},
            "config": self.config.model_dump(mode="json", exclude={"rows"}),
        }


def find_conditional_vae(
    request: ConditionalVaeRequest, store: Store, *, device: str = "cpu"
) -> TrainedConditional | None:
    """Return the VAE of a request, bundled or cached, or `None`."""
    found = store.find(VAE_KIND, store.key(request.describe()))
    return None if found is None else load_conditional(found[0], sha256=found[1], device=device)


def learn_conditional_vae(
    request: ConditionalVaeRequest, store: Store, *, device: str = "cpu", progress: Progress | None = None
) -> Path:
    """Train the VAE of a request and keep it; return its file. Arguments and errors are those of `learn_code`."""
    train = partial(train_conditional, request.denoiser, name=request.denoiser.sha256)

    def save(path: Path, trained: TrainedConditional, meta: Mapping[str, Any]) -> str:
        return save_conditional(path, trained.vae, trained.others, meta)

    return learn_code(request, store, train, save, device=device, progress=progress)


@dataclass(frozen=True)
class ConditionalRequest(LayerRequest):
    """What decides how a layer's cINN on the codes of a VAE that is given f(x) comes out.

    The VAE without a condition does not: it is a reference only.

    Args:
        code: the VAE that is given f(x), of the layer's denoiser and the target domain.
    """

    code: TrainedConditional = field(kw_only=True)

    def __post_init__(self) -> None:
        # The length of a code is the VAE's, whatever the preset was made for.
        config, d = self.config, self.code.vae.d
        rows = config.settings("conditional", ConditionalConfig).rows
        own = config.model_copy(
            update={"cinn": config.cinn.model_copy(update={"d": d}), "rows": min(config.rows, rows)}
        )
        object.__setattr__(self, "config", own)

    def describe(self) -> dict[str, Any]:
        """Return the request as JSON values; its fingerprint is the key of the result."""
        return {**super().describe(), "kind": KIND, "vae": self.code.sha256}


def find_conditional(request: ConditionalRequest, store: Store) -> ConditionalModel | None:
    """Return the trained cINN of a request, bundled or cached, or `None`."""
    found = store.find(KIND, store.key(request.describe()))
    return None if found is None else load_conditional_layer(found[0], request, sha256=found[1])


def load_conditional_layer(
    path: Path, request: ConditionalRequest, *, sha256: str | None = None
) -> ConditionalModel:
    """Read a layer's cINN and refuse it where its provenance is not that of the request.

    Raises:
        ArtifactError: the file is damaged, or was trained for another layer, code, data or configuration.
    """
    fields, held_out = read_layer(path, request, sha256)
    return ConditionalModel(vae=request.code.vae, others=request.code.others, held_out=held_out, **fields)


def learn_conditional(
    request: ConditionalRequest, store: Store, *, progress: Progress | None = None
) -> ConditionalModel:
    """Train a layer's cINN and keep it, or return what another process has trained in the meantime.

    Raises:
        DivergedError: a training diverged twice.
    """
    path = learn(_ConditionalTraining, request, store, progress=progress)
    return load_conditional_layer(path, request)


class _ConditionalTraining(LayerTraining):
    """One run from nothing to a file; each stage resumes from its own checkpoints."""

    request: ConditionalRequest

    @property
    def patch(self) -> int:
        """Side of the patches that are coded."""
        return self.request.code.vae.patch

    def more(self) -> dict[str, Any]:
        """Return what the code keeps of held-out patches, so that it can be compared with that of other representations."""
        meta = self.request.code.meta
        return {"completeness": meta["held_out"], "vae_trained_on": meta.get("trained_on", "")}

    def coded(
        self,
        split: Split,
        x: Tensor,
        target: Tensor,
        regressor: Regressor,
        *,
        stages: int | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return mean and log-variance of the codes of patches, and the condition of each."""
        size = (x.shape[-2], x.shape[-1])
        pieces = [
            estimate_and_output(split, regressor, split.phi(part), size, stages=stages)
            for part in torch.split(x, AT_ONCE)
        ]
        estimate, output = (torch.cat(maps) for maps in zip(*pieces, strict=True))
        vae = self.request.code.vae
        of_z = vae.encode(estimate, output)
        if split.layer == "const":
            # The same codes as for every layer: only the flow does not know f(x).
            output = torch.cat([split.denoiser(part) for part in torch.split(x, AT_ONCE)])
        posterior = vae.encode(target, output)
        return posterior.mean, posterior.log_var, torch.cat([of_z.mean, of_z.log_var], dim=1)
