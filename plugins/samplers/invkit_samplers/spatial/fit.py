"""The task that trains the VAE with a spatial code, and what such a code keeps of patches beside a PCA of blocks."""

__all__ = ["SpatialTask", "lost_by_band", "rival_of_blocks"]

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from invkit.samplers import (
    Domain,
    OnePhase,
    PatchSampler,
    Shard,
    completeness,
    first_patches,
    fit_pca,
    generator,
    held_out_figures,
    in_float64,
    patch_feed,
    sigma_nll,
)
from invkit_samplers.spatial.code import SpatialConfig, SpatialVae

CHUNK = 64  # held-out patches at a time
LOST = 64  # held-out patches behind the spectrum of what is lost


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
        sampler: PatchSampler,
        held_out: PatchSampler,
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


def lost_by_band(vae: SpatialVae, held_out: PatchSampler, domain: Domain) -> dict[str, Any]:
    """Return how many numbers the code of a patch has, its rate in nats, and the share of power that is lost by band."""
    patches = held_out.batch(0, LOST).of(domain).to(vae.device)
    with torch.no_grad():
        rate = float(in_float64(vae.encode(patches).kl()).mean())
    kept = completeness(patches, vae.reconstruct, numbers=vae.d, rate=rate)
    return {"numbers": kept.numbers, "rate_nats": kept.rate, "lost": kept.lost.tolist()}


@torch.no_grad()
def rival_of_blocks(
    sampler: PatchSampler, held_out: PatchSampler, domain: Domain, config: SpatialConfig, seed: int
) -> dict[str, Any]:
    """Return the RMSE of PCA of single blocks with as many numbers, fitted to the patches that the linear paths start from."""

    def blocks(patches: Tensor) -> Tensor:
        folded = functional.pixel_unshuffle(patches, config.stem)
        return folded.movedim(1, -1).reshape(-1, 1, config.stem, config.stem)

    fitted = blocks(first_patches(sampler, domain, config.batch, config.start_patches))
    pca = fit_pca(fitted, config.channels, generator=generator(seed, "spatial", "pca"))
    batches = -(-config.held_out // CHUNK)
    tested = torch.cat([held_out.batch(step, CHUNK).of(domain) for step in range(batches)])
    return {"rmse_hu": pca.rmse(blocks(tested[: config.held_out])), "components": config.channels}
