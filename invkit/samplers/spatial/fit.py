"""Training of the VAE with a spatial code, its held-out figures, and its file."""

__all__ = ["SpatialTask", "TrainedSpatial", "load_spatial", "save_spatial", "train_spatial"]

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from invkit import artifacts
from invkit._version import __version__
from invkit.data.patches import Domain, PatchSampler
from invkit.samplers.spatial.code import SpatialConfig, SpatialVae
from invkit.training.engine import Shard, fit
from invkit.training.optimiser import OnePhase
from invkit.training.precision import in_float64
from invkit.training.processes.distributed import by_first
from invkit.training.progress import Progress
from invkit.training.seeds import derive_seed, generator, seeded
from invkit.vae.completeness import completeness
from invkit.vae.fitting import config_of, fit_config, halves, restored
from invkit.vae.held_out import (
    CHUNK,
    PatchSource,
    chosen,
    first_patches,
    held_out_figures,
    patch_feed,
)
from invkit.vae.losses import sigma_nll
from invkit.vae.pca import fit_pca

KIND = "spatial-vae"
FILE = "spatial-vae.safetensors"
LOST = 64  # held-out patches behind the spectrum of what is lost


@dataclass(frozen=True)
class TrainedSpatial:
    """A trained VAE with a spatial code.

    Args:
        vae: in eval mode, float32.
        meta: provenance and held-out figures.
        sha256: of the file it was stored in.
    """

    vae: SpatialVae
    meta: dict[str, Any]
    sha256: str


class SpatialTask(OnePhase):
    """Minimises `1/2 log mse + kl_weight KL / pixels`, nats per pixel, as one engine task.

    Args:
        vae: what is trained; started here, on the first patches.
        sampler: training patches.
        held_out: patches of other patients.
        domain: `"low"` learns x, `"high"` learns y.
        seed: of everything random here.
        identity: what is trained on what, for the run folder.
    """

    def __init__(
        self,
        vae: SpatialVae,
        sampler: PatchSource,
        held_out: PatchSource,
        *,
        domain: Domain,
        seed: int,
        identity: str | None = None,
    ):
        self.vae, self.sampler, self.held_out, self.domain = vae, sampler, held_out, domain
        self.seed, self.identity, self.config = seed, identity, vae.config
        first = first_patches(sampler, domain, self.config.batch, self.config.start_patches)
        vae.start(first.to(vae.device))
        self._feed = patch_feed(sampler, domain, self.config.batch, vae.device)
        self.bf16 = self.config.bf16
        super().__init__("vae", vae, self.config, self.config.betas)

    def loss(self, phase: str, step: int, shard: Shard) -> tuple[Tensor, dict[str, Tensor | float]]:
        """Return the loss of this process's part of the batch, and figures to log."""
        config, vae = self.config, self.vae
        (x,) = self._feed.batch((step, shard), following=(step + 1, shard))
        posterior = vae.encode(x)
        # Drawn for the whole batch: the same numbers however many processes share it.
        noise = generator(self.seed, "spatial", step, device=vae.device)
        shape = (config.batch, *posterior.mean.shape[1:])
        sample = torch.randn(shape, generator=noise, device=vae.device)[shard.slice(config.batch)]
        x_bar = vae.decode(posterior.mean + (0.5 * posterior.log_var).exp() * sample)
        reconstruction = sigma_nll(vae.scale(x), (x_bar - config.hu_mean) / config.hu_scale)
        kl = posterior.kl().mean()
        figures: dict[str, Tensor | float] = {
            "rmse_hu": reconstruction.detach().exp() * config.hu_scale,
            "kl_per_dim": kl.detach() / config.d,
        }
        return reconstruction + config.kl_weight * kl / x[0].numel(), figures

    def evaluate(self, step: int) -> dict[str, float]:
        """Return RMSE and KL on two chunks of held-out patches."""
        figures = held_out_figures(self.vae, self.held_out, self.domain, 2 * CHUNK)
        return {"rmse_hu": figures["rmse_hu"], "kl_per_dim": figures["kl_per_dim"]}


def train_spatial(
    sampler: PatchSampler,
    held_out: PatchSampler,
    config: SpatialConfig,
    folder: Path,
    *,
    domain: Domain,
    seed: int = 0,
    progress: Progress | None = None,
    device: torch.device | str = "cpu",
) -> TrainedSpatial:
    """Train a VAE with a spatial code, measure it on held-out patches, and store it in `folder/spatial-vae.safetensors`.

    The weights are rounded to fp16 first, so the figures are those of what is stored. A training that was interrupted goes on
    where its last checkpoint in `folder` stands.

    Args:
        sampler: training patches of size `config.patch`.
        held_out: patches of other patients.
        config: architecture and training.
        folder: run folder.
        domain: `"low"` learns the low-dose x, `"high"` the high-dose y.
        seed: of initialisation and posterior samples; the patches have the sampler's own.
        progress: is told how far the training is.
        device: where it trains.

    Raises:
        DivergedError: the training diverged.
    """
    data = {"fingerprint": sampler.slices.fingerprint, "dose": sampler.dose, "seed": sampler.seed}
    identity = artifacts.fingerprint(
        {"kind": KIND, "config": config.model_dump(mode="json"), "data": data, "domain": domain, "seed": seed}
    )
    vae = seeded(lambda: SpatialVae(config), derive_seed(seed, "spatial", "parameters")).to(device)
    task = SpatialTask(vae, sampler, held_out, domain=domain, seed=seed, identity=identity)
    result = fit(
        task,
        fit_config(config, seed=seed),
        folder,
        progress=progress,
        device=device,
        stage=f"spatial VAE ({domain} dose)",
    )
    vae.half().float().eval()
    meta = {
        "config": config.model_dump(mode="json"),
        "domain": domain,
        "data": data,
        "steps": result.steps,
        "precision": result.precision,
        "seconds": result.seconds,
        "seed": seed,
        "held_out": {
            "description": held_out.slices.description,
            **held_out_figures(vae, held_out, domain, config.held_out),
            **_lost(vae, held_out, domain),
            "pca": _rival(sampler, held_out, domain, config, seed),
        },
        "invkit": __version__,
    }
    path = folder / FILE
    by_first(lambda: save_spatial(path, vae, meta))
    return load_spatial(path, device=device)


def save_spatial(path: Path, vae: SpatialVae, meta: Mapping[str, Any]) -> str:
    """Write a VAE in fp16 with its provenance, of which `"config"` is needed; return the file's sha256."""
    return artifacts.save(path, halves(vae), kind=KIND, meta=meta)


def load_spatial(
    path: Path, *, sha256: str | None = None, device: torch.device | str = "cpu"
) -> TrainedSpatial:
    """Read a VAE in eval mode, float32, without gradients on its parameters.

    Raises:
        ArtifactError: missing, changed by a bit, of another kind, or not what its own config describes.
    """
    stored = artifacts.load(Path(path), kind=KIND, sha256=sha256)
    vae = restored(SpatialVae(config_of(stored, SpatialConfig)), stored, None, device)
    return TrainedSpatial(vae, stored.meta, stored.sha256)


def _lost(vae: SpatialVae, held_out: PatchSource, domain: Domain) -> dict[str, Any]:
    """Return how many numbers the code of a patch has, its rate in nats, and the share of power that is lost by band."""
    patches = chosen(held_out.batch(0, LOST), domain).to(vae.device)
    with torch.no_grad():
        rate = float(in_float64(vae.encode(patches).kl()).mean())
    kept = completeness(patches, vae.reconstruct, numbers=vae.d, rate=rate)
    return {"numbers": kept.numbers, "rate_nats": kept.rate, "lost": kept.lost.tolist()}


@torch.no_grad()
def _rival(
    sampler: PatchSource, held_out: PatchSource, domain: Domain, config: SpatialConfig, seed: int
) -> dict[str, Any]:
    """Return the RMSE of PCA of single blocks with as many numbers, fitted to the patches that the linear paths start from."""

    def blocks(patches: Tensor) -> Tensor:
        folded = functional.pixel_unshuffle(patches, config.stem)
        return folded.movedim(1, -1).reshape(-1, 1, config.stem, config.stem)

    fitted = blocks(first_patches(sampler, domain, config.batch, config.start_patches))
    pca = fit_pca(fitted, config.channels, generator=generator(seed, "spatial", "pca"))
    batches = -(-config.held_out // CHUNK)
    tested = torch.cat([chosen(held_out.batch(step, CHUNK), domain) for step in range(batches)])
    return {"rmse_hu": pca.rmse(blocks(tested[: config.held_out])), "components": config.channels}
