"""A layer's flow as a file: what decides it, what is written of it, and what all samplers read of it again."""

__all__ = ["LayerRequest", "LearnedFlow", "read_layer", "write_layer"]

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor, nn

from invkit import artifacts
from invkit._version import __version__
from invkit.data.patches import Domain
from invkit.data.slices import SliceSet, split_meta
from invkit.flow.store import cinn_from
from invkit.parts.config import LayerConfig
from invkit.parts.workshop import Workshop
from invkit.regressor.regressor import Regressor
from invkit.split.split import Split
from invkit.training.task import FitResult
from invkit.vae.trained import TrainedVae

KIND = "cinn"
Part = Literal["cinn", "flow"]
FlowReader = Callable[[Mapping[str, Tensor], Mapping[str, Any]], nn.Module]
HELD_OUT = ("calibration.", "regressed_rows")


@dataclass(frozen=True)
class LayerRequest:
    """What decides how a layer's cINN comes out.

    Args:
        split: the layer or control.
        vae: the code of the target domain.
        slices: what is trained on.
        config: sizes and steps.
        domain: `"low"` for codes of the low-dose image x, `"high"` for those of its high-dose partner y.
        seed: decides every random number.
    """

    kind: ClassVar[str] = KIND
    """Of the file."""

    split: Split
    vae: TrainedVae
    slices: SliceSet
    config: LayerConfig
    domain: Domain = "low"
    seed: int = 0

    @classmethod
    def of(cls, split: Split, domain: Domain, workshop: Workshop, **more: Any) -> Self:
        """Return the request for a layer or control with what a workshop has; `more` are the fields of a subclass."""
        vae = workshop.vae(domain)
        return cls(split, vae, workshop.slices, workshop.config, domain, workshop.seed, **more)

    @property
    def device(self) -> torch.device:
        """Where all of it computes."""
        return self.vae.vae.device

    def describe(self) -> dict[str, Any]:
        """Return the request as JSON values; its fingerprint is the key of the result."""
        return {
            "kind": self.kind,
            "phi": self.split.describe(),
            "vae": self.vae.sha256,
            "data": self.slices.fingerprint,
            "config": self.config.model_dump(mode="json"),
            "domain": self.domain,
            "seed": self.seed,
        }


@dataclass(frozen=True)
class LearnedFlow:
    """A flow that was trained for a layer, as it is stored, with its held-out likelihoods in nats per dimension.

    Args:
        part: of the file that holds it, and field of the model.
        state: its tensors and its settings.
        result: of its training.
        nll_rows: negative log-likelihoods, `(n,)`.
        floor: the least that their mean can be.
        floor_rows: the least that each can be, `(n,)`.
        patients: number of the patient that each is from, `(n,)`.
        tensors: what else the file keeps.
        meta: what else belongs into its provenance.
    """

    part: Part
    state: tuple[Mapping[str, Tensor], Mapping[str, Any]]
    result: FitResult
    nll_rows: Tensor
    floor: float
    floor_rows: Tensor
    patients: Tensor
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    meta: Mapping[str, Any] = field(default_factory=dict)


def write_layer(
    path: Path,
    request: LayerRequest,
    regressor: Regressor,
    learned: LearnedFlow,
    scales: tuple[float, float],
    meta: Mapping[str, Any],
) -> None:
    """Write the flow of a layer with its regressor and what is known of both.

    Args:
        path: the file.
        request: that it answers.
        regressor: g.
        learned: the flow.
        scales: s_Phi, and eta in units of it.
        meta: what else belongs into its provenance.
    """
    wanted = request.describe()
    parts = {learned.part: learned.state, "regressor": regressor.state()}
    artifacts.save(
        path,
        {
            **{
                f"{part}.{name}": tensor
                for part, (tensors, _) in parts.items()
                for name, tensor in tensors.items()
            },
            "nll_rows": learned.nll_rows,
            "floor_rows": learned.floor_rows,
            "patients": learned.patients,
            **learned.tensors,
        },
        kind=wanted["kind"],
        meta={
            **wanted,
            **{part: settings for part, (_, settings) in parts.items()},
            "scale": scales[0],
            "eta": scales[1],
            "nll": learned.nll_rows.mean().item(),
            "floor": learned.floor,
            "steps": learned.result.steps,
            "best_step": learned.result.best_step,
            "stopped_early": learned.result.stopped_early,
            "processes": learned.result.processes,
            "trained_on": request.slices.description,
            **split_meta(request.slices),
            "layer": request.split.layer,
            "invkit": __version__,
            "torch": str(torch.__version__),
            **learned.meta,
            **meta,
        },
    )


def read_layer(
    path: Path, request: LayerRequest, sha256: str | None, read: FlowReader = cinn_from, part: Part = "cinn"
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return what all models hold of a layer's file, by field, and what else it keeps of held-out patches.

    Args:
        path: the file.
        request: that it has to answer.
        sha256: the file's, where it is known.
        read: makes the flow of its tensors and settings.
        part: of the file that holds it, and field of the model.

    Raises:
        ArtifactError: the file is damaged, or was trained for another layer, code, data or configuration.
    """
    wanted = request.describe()
    stored = artifacts.load(path, kind=wanted["kind"], sha256=sha256)
    stored.require(wanted)
    flow = read(stored.part(part), stored.meta[part])
    regressor = Regressor.from_state(stored.part("regressor"), stored.meta["regressor"])
    fields = {
        "split": request.split,
        "regressor": regressor.to(request.device),
        part: flow.to(request.device),
        "meta": stored.meta,
        "sha256": stored.sha256,
        "nll_rows": stored.tensors["nll_rows"],
        "patients": stored.tensors["patients"],
        "floor_rows": stored.tensors.get("floor_rows"),
    }
    return fields, {name: value for name, value in stored.tensors.items() if name.startswith(HELD_OUT)}
