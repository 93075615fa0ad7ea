"""Training a layer's flow in residual coordinates: regressor, table of tiles, flow, held-out figures."""

__all__ = ["ResidualRequest", "ResidualTraining"]

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from invkit.samplers import (
    AT_ONCE,
    CodeTable,
    LayerRequest,
    LayerTraining,
    LearnedFlow,
    Regressor,
    estimate_image,
    generator,
)
from invkit_samplers.residual.model import base_of
from invkit_samplers.residual.tile_code import TileCode

BATCH = 32  # patches that are drawn at a time
TILES = 8  # rows of the table from one patch


@dataclass(frozen=True)
class ResidualRequest(LayerRequest):
    """What decides how a layer's flow of residuals comes out. The VAE does not: it is a reference only."""

    kind = "residual"

    def describe(self) -> dict[str, Any]:
        """Return the request as JSON values; its fingerprint is the key of the result."""
        return {name: value for name, value in super().describe().items() if name != "vae"}


class ResidualTraining(LayerTraining):
    """One run from nothing to a file; each stage resumes from its own checkpoints."""

    def learned(self, regressor: Regressor, key: str) -> Callable[[], LearnedFlow]:
        """Train the flow given g; return what measures it."""
        code = TileCode(self.config.cinn.d)
        (train, _), (validation, _), (test, patients) = (
            self._tiles(part, rows, regressor, code) for part, rows in self.config.parts.items()
        )
        cinn, result = self.fit_cinn(
            train, validation, purpose="residual", folder="flow", stage="flow of residuals"
        )
        return lambda: self.measured_cinn(cinn, result, test, patients)

    @torch.no_grad()
    def _tiles(self, part: str, rows: int, regressor: Regressor, code: TileCode) -> tuple[CodeTable, Tensor]:
        """Return codes and conditions of tiles at random places, 8 of each patch, and the patient that each is from."""
        means, conditions, patients = [], [], []
        for step in range(-(-rows // (TILES * BATCH))):
            pairs = self.samplers[part].batch(step, BATCH)
            size = (pairs.x.shape[-2], pairs.x.shape[-1])
            random = generator(self.seed("tiles"), part, step)
            places = torch.randint(size[0] - code.side + 1, (BATCH * TILES, 2), generator=random)
            for images, wanted, corners in zip(
                torch.split(pairs.x, AT_ONCE),
                torch.split(self.target(pairs).to(self.device), AT_ONCE),
                torch.split(places, AT_ONCE * TILES),
                strict=True,
            ):
                z = self.split.phi(images.to(self.device))
                base, estimate, target = (
                    maps.repeat_interleave(TILES, dim=0)
                    for maps in (
                        base_of(self.split, z, size),
                        estimate_image(self.split, regressor, z, size),
                        wanted,
                    )
                )
                means.append(code.encode(code.at(target - base, corners)))
                conditions.append(code.condition(base, estimate, corners))
            patients.append(pairs.patient.repeat_interleave(TILES))
        mean = torch.cat(means)[:rows]
        table = CodeTable(mean, torch.full_like(mean, code.log_var), torch.cat(conditions)[:rows])
        return table, torch.cat(patients)[:rows]
