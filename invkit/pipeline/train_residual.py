"""Training a layer's flow in residual coordinates: regressor, table of tiles, flow, held-out figures, one file."""

__all__ = ["KIND", "ResidualRequest", "find_residual", "learn_residual", "load_residual"]

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from invkit import artifacts
from invkit._version import __version__
from invkit.data.slices import split_meta
from invkit.flow.cinn import CINN
from invkit.flow.store import cinn_from, cinn_state, round_half
from invkit.flow.table import CodeTable, posterior_entropy, posterior_entropy_rows
from invkit.flow.train import CinnTask, fit_config, nll_rows
from invkit.pipeline.store import Store
from invkit.pipeline.train_layer import AT_ONCE, BATCH, LayerRequest, LayerTraining
from invkit.representation.regressor import Regressor
from invkit.representation.tile_code import TileCode
from invkit.sampling.residual_model import ResidualModel, base_of
from invkit.training.engine import fit
from invkit.training.lock import exclusive
from invkit.training.progress import Progress
from invkit.training.seeds import generator

KIND = "residual"
TILES = 8  # rows of the table from one patch


@dataclass(frozen=True)
class ResidualRequest(LayerRequest):
    """What decides how a layer's flow of residuals comes out. The VAE does not: it stands for a rung of the ladder only."""

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
    stored = artifacts.load(path, kind=KIND, sha256=sha256)
    stored.require(request.describe())
    tensors, device = stored.tensors, request.split.denoiser.device
    return ResidualModel(
        split=request.split,
        regressor=Regressor.from_state(stored.part("regressor"), stored.meta["regressor"]).to(device),
        code=TileCode(request.config.cinn.d),
        cinn=cinn_from(stored.part("cinn"), stored.meta["cinn"]).to(device),
        meta=stored.meta,
        sha256=stored.sha256,
        nll_rows=tensors["nll_rows"],
        patients=tensors["patients"],
        floor_rows=tensors["floor_rows"],
    )


def learn_residual(
    request: ResidualRequest, store: Store, *, progress: Progress | None = None
) -> ResidualModel:
    """Train a layer's flow of residuals and keep it, or return what another process has trained in the meantime.

    Raises:
        DivergedError: a training diverged twice.
    """
    key = store.key(request.describe())
    path, work = store.path(KIND, key), store.work(KIND, key)
    with exclusive(work):
        if store.find(KIND, key) is None:
            _ResidualTraining(request, work, progress).run(path, key)
    return load_residual(path, request)


class _ResidualTraining(LayerTraining):
    """One run from nothing to a file; each stage resumes from its own checkpoints."""

    def run(self, path: Path, key: str) -> None:
        """Train regressor and flow, measure both, write the file."""
        config, seed = self.config.cinn, self._seed("residual")
        code = TileCode(config.d)
        regressor, regressed = self._regressor()
        train, validation, test = (
            self._tiles(part, regressor, code) for part in ("train", "validation", "test")
        )
        cinn = CINN(config, train[0].condition_shape).to(self.device)
        result = fit(
            CinnTask(cinn, train[0], validation[0], seed=seed),
            fit_config(config, seed=seed),
            self.work / "flow",
            progress=self.progress,
            device=self.device,
            stage=f"{self.split.layer}: flow of residuals",
        )
        round_half(cinn)
        rows = nll_rows(cinn, test[0], seed=self._seed("nll"))
        scale, eta = self._scales()
        tensors, cinn_meta = cinn_state(cinn)
        regressor_tensors, regressor_meta = regressor.state()
        meta = {
            **self.request.describe(),
            "key": key,
            "cinn": cinn_meta,
            "regressor": regressor_meta,
            "scale": scale,
            "eta": eta,
            "regressor_rmse_hu": regressed["rmse_hu"],
            "nll": rows.mean().item(),
            "floor": posterior_entropy(test[0]),
            "steps": result.steps,
            "stopped_early": result.stopped_early,
            "trained_on": self.request.slices.description,
            **split_meta(self.request.slices),
            "layer": self.split.layer,
            "invkit": __version__,
            "torch": str(torch.__version__),
        }
        artifacts.save(
            path,
            {
                **{f"cinn.{name}": tensor for name, tensor in tensors.items()},
                **{f"regressor.{name}": tensor for name, tensor in regressor_tensors.items()},
                "nll_rows": rows,
                "floor_rows": posterior_entropy_rows(test[0]),
                "patients": test[1],
            },
            kind=KIND,
            meta=meta,
        )

    @torch.no_grad()
    def _tiles(self, part: str, regressor: Regressor, code: TileCode) -> tuple[CodeTable, Tensor]:
        """Return codes and conditions of tiles at random places, 8 of each patch, and the patient that each is from."""
        rows = self.config.rows if part == "train" else self.config.held_out
        means, conditions, patients = [], [], []
        for step in range(-(-rows // (TILES * BATCH))):
            pairs = self.samplers[part].batch(step, BATCH)
            size = (pairs.x.shape[-2], pairs.x.shape[-1])
            random = generator(self._seed("tiles"), part, step)
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
                    for maps in (base_of(self.split, z, size), regressor(z, size), wanted)
                )
                means.append(code.encode(code.at(target - base, corners)))
                conditions.append(code.condition(base, estimate, corners))
            patients.append(pairs.patient.repeat_interleave(TILES))
        mean = torch.cat(means)[:rows]
        table = CodeTable(mean, torch.full_like(mean, code.log_var), torch.cat(conditions)[:rows])
        return table, torch.cat(patients)[:rows]
