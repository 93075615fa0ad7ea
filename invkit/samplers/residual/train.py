"""Training a layer's flow in residual coordinates: regressor, table of tiles, flow, held-out figures, one file."""

__all__ = ["KIND", "ResidualRequest", "find_residual", "learn_residual", "load_residual"]

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from invkit.data.partition import Part
from invkit.denoisers.loaded import AT_ONCE
from invkit.flow.table import CodeTable
from invkit.parts.layer import BATCH, LayerTraining, learn
from invkit.parts.layer_file import LayerRequest, LearnedFlow, read_layer
from invkit.parts.store import Store
from invkit.regressor.regressor import Regressor
from invkit.samplers.residual.model import ResidualModel, base_of
from invkit.samplers.residual.tile_code import TileCode
from invkit.sampling.base import estimated
from invkit.training.progress import Progress
from invkit.training.seeds import generator

KIND = "residual"
TILES = 8  # rows of the table from one patch


@dataclass(frozen=True)
class ResidualRequest(LayerRequest):
    """What decides how a layer's flow of residuals comes out. The VAE does not: it is a reference only."""

    def describe(self) -> dict[str, Any]:
        """Return the request as JSON values; its fingerprint is the key of the result."""
        return {name: value for name, value in super().describe().items() if name != "vae"} | {"kind": KIND}


def find_residual(request: ResidualRequest, store: Store) -> ResidualModel | None:
    """Return the trained flow of a request, bundled or cached, or `None`."""
    found = store.find(KIND, store.key(request.describe()))
    return None if found is None else load_residual(found[0], request, sha256=found[1])


def load_residual(path: Path, request: ResidualRequest, *, sha256: str | None = None) -> ResidualModel:
    """Read a layer's flow of residuals and refuse it where its provenance is not that of the request.

    Raises:
        ArtifactError: the file is damaged, or was trained for another layer, data or configuration.
    """
    return ResidualModel(code=TileCode(request.config.cinn.d), **read_layer(path, request, sha256)[0])


def learn_residual(
    request: ResidualRequest, store: Store, *, progress: Progress | None = None
) -> ResidualModel:
    """Train a layer's flow of residuals and keep it, or return what another process has trained in the meantime.

    Raises:
        DivergedError: a training diverged twice.
    """
    return load_residual(learn(_ResidualTraining, request, store, progress=progress), request)


class _ResidualTraining(LayerTraining):
    """One run from nothing to a file; each stage resumes from its own checkpoints."""

    def learned(self, regressor: Regressor, key: str) -> Callable[[], LearnedFlow]:
        """Train the flow given g; return what measures it."""
        code = TileCode(self.config.cinn.d)
        (train, _), (validation, _), (test, patients) = (
            self._tiles(part, regressor, code) for part in self.config.parts
        )
        cinn, result = self._cinn(train, validation, "residual", "flow", "flow of residuals")
        return lambda: self._measured(cinn, result, test, patients)

    @torch.no_grad()
    def _tiles(self, part: Part, regressor: Regressor, code: TileCode) -> tuple[CodeTable, Tensor]:
        """Return codes and conditions of tiles at random places, 8 of each patch, and the patient that each is from."""
        rows = self.config.parts[part]
        means, conditions, patients = [], [], []
        for step in range(-(-rows // (TILES * BATCH))):
            pairs = self.samplers[part].batch(step, BATCH)
            size = (pairs.x.shape[-2], pairs.x.shape[-1])
            random = generator(self.seed("tiles"), part, step)
            places = torch.randint(size[0] - code.side + 1, (BATCH * TILES, 2), generator=random)
            for images, wanted, corners in zip(
                torch.split(pairs.x, AT_ONCE),
                torch.split(self._target(pairs).to(self.device), AT_ONCE),
                torch.split(places, AT_ONCE * TILES),
                strict=True,
            ):
                z = self.split.phi(images.to(self.device))
                base, estimate, target = (
                    maps.repeat_interleave(TILES, dim=0)
                    for maps in (
                        base_of(self.split, z, size),
                        estimated(self.split, regressor, z, size),
                        wanted,
                    )
                )
                means.append(code.encode(code.at(target - base, corners)))
                conditions.append(code.condition(base, estimate, corners))
            patients.append(pairs.patient.repeat_interleave(TILES))
        mean = torch.cat(means)[:rows]
        table = CodeTable(mean, torch.full_like(mean, code.log_var), torch.cat(conditions)[:rows])
        return table, torch.cat(patients)[:rows]
