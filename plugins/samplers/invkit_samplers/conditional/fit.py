"""Training of the VAE that is given f(x): its table of patches, its task, and its held-out figures."""

__all__ = ["ConditionalTask", "GivenPatches", "conditional_figures", "given_patches", "rival_figures"]

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from invkit.samplers import (
    AT_ONCE,
    Domain,
    OnePhase,
    PatchSampler,
    Posterior,
    Progress,
    Shard,
    fit_pca,
    generator,
    in_float64,
    mixed_precision,
    radial_bands,
    reconstruction_figures,
    report_progress,
    sigma_nll,
)
from invkit_samplers.conditional.code import ConditionalVae

BATCH = 32  # patches that are drawn at a time
CHUNK = 64  # patches that are judged at a time
RIVAL = 3072  # patches that principal components are fitted to: twice as many take 2 GB

Denoise = Callable[[Tensor], Tensor]
"""f: from images `(B, 1, H, W)` in HU to the same."""


@dataclass(frozen=True)
class GivenPatches:
    """Patches and what the networks are given with each; in half precision, for there are thousands.

    Args:
        x: patches of the domain that is coded, `(n, 1, s, s)`, HU.
        f_x: f of the low-dose patches, of the same shape, HU.
    """

    x: Tensor
    f_x: Tensor

    def __len__(self) -> int:
        return len(self.x)

    def rows(self, rows: Tensor | slice) -> tuple[Tensor, Tensor]:
        """Return some of both, float32."""
        return self.x[rows].float(), self.f_x[rows].float()

    def chunks(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield all of both, float32, some at a time."""
        for start in range(0, len(self), CHUNK):
            yield self.rows(slice(start, start + CHUNK))


@torch.no_grad()
def given_patches(
    denoise: Denoise,
    source: PatchSampler,
    domain: Domain,
    count: int,
    *,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
    stage: str = "f of the patches",
) -> GivenPatches:
    """Return the first `count` patches of a source with f of each; processes share the work.

    Args:
        denoise: f.
        source: of pairs of patches.
        domain: which image of a pair is coded; f is that of the low-dose one.
        count: number of patches.
        device: where f computes, and where the table lies.
        progress: receives the progress.
        stage: what progress calls it.
    """
    steps = -(-count // BATCH)

    def batch(step: int) -> tuple[Tensor, Tensor]:
        pairs = source.batch(step, BATCH)
        outputs = [denoise(part.to(device)) for part in torch.split(pairs.x, AT_ONCE)]
        return pairs.of(domain).to(device).half(), torch.cat(outputs).half()

    columns = zip(*report_progress(map(batch, range(steps)), stage, steps, progress), strict=True)
    x, f_x = (torch.cat(column)[:count] for column in columns)
    return GivenPatches(x, f_x)


class ConditionalTask(OnePhase):
    """Minimises `1/2 log mse + kl_weight KL / pixels`, nats per pixel, as one engine task.

    The rows of a step are drawn with replacement from (seed, step).

    Args:
        vae: what is trained; started here, on the training patches.
        train: training patches.
        held_out: patches of other patients.
        seed: of everything random here.
        identity: what is trained on what, for the run folder.
    """

    def __init__(
        self,
        vae: ConditionalVae,
        train: GivenPatches,
        held_out: GivenPatches,
        *,
        seed: int,
        identity: str | None = None,
    ):
        self.vae, self.train, self.held_out = vae, train, held_out
        self.seed, self.identity, self.config = seed, identity, vae.config
        self.bf16 = self.config.bf16
        vae.start(train.x, train.f_x, generator(seed, "conditional", "start", device=vae.device))
        super().__init__("vae", vae, self.config, self.config.betas)

    def loss(self, phase: str, step: int, shard: Shard) -> tuple[Tensor, dict[str, Tensor | float]]:
        """Return the loss of this process's part of the batch, and figures to log."""
        config, vae = self.config, self.vae
        part = shard.slice(config.batch)
        rows = torch.randint(
            len(self.train), (config.batch,), generator=generator(self.seed, "conditional", "rows", step)
        )[part]
        x, f_x = self.train.rows(rows.to(self.train.x.device))
        residual, seen = vae.residual(x, f_x), vae.seen(f_x)
        # Drawn for the whole batch: the same numbers however many processes share it.
        noise = generator(self.seed, "conditional", "posterior", step, device=vae.device)
        sample = torch.randn((config.batch, config.d), generator=noise, device=vae.device)[part]
        with mixed_precision(vae.device):
            mean, log_var = vae.encoder(torch.cat([residual, seen], dim=1))
            decoded = vae.decoder(mean + (0.5 * log_var).exp() * sample, seen)
        reconstruction = sigma_nll(residual, decoded)
        kl = Posterior(mean, log_var).kl().mean()
        figures: dict[str, Tensor | float] = {
            "rmse_hu": reconstruction.detach().exp() * vae.unit,
            "kl_per_dim": kl.detach() / config.d,
        }
        return reconstruction + config.kl_weight * kl / residual[0].numel(), figures

    def evaluate(self, step: int) -> dict[str, float]:
        """Return RMSE and KL on two chunks of held-out patches."""
        few = slice(2 * CHUNK)
        figures = conditional_figures(self.vae, GivenPatches(self.held_out.x[few], self.held_out.f_x[few]))
        return {"rmse_hu": figures["rmse_hu"], "kl_per_dim": figures["kl_per_dim"]}


def conditional_figures(vae: ConditionalVae, held_out: GivenPatches) -> dict[str, Any]:
    """Return what `f(x) + D(E(x, f(x)), f(x))` keeps of held-out patches, as `held_out_figures` does for the VAE."""

    def parts() -> Iterator[tuple[Tensor, Posterior, Tensor]]:
        for x, f_x in held_out.chunks():
            posterior = vae.encode(x, f_x)
            yield x, posterior, vae.decode(posterior.mean, f_x)

    return reconstruction_figures(parts())


@torch.no_grad()
def rival_figures(
    vae: ConditionalVae, train: GivenPatches, held_out: GivenPatches, seed: int
) -> dict[str, Any]:
    """Return what f(x) alone keeps of held-out patches, what D makes of it with no code, and f(x) with principal components.

    Without the second nobody could tell whether the code says anything: D may know from f(x) alone what the denoiser took away.

    Args:
        vae: the trained networks; as many principal components as its code has numbers.
        train: patches, the first of which the components are fitted to.
        held_out: patches that are judged.
        seed: of the search for them.
    """
    d = vae.d
    residuals = torch.sub(*train.rows(slice(RIVAL)))
    pca = fit_pca(residuals, d, generator=generator(seed, "conditional", "pca", device=residuals.device))
    fitted = len(residuals)
    del residuals
    alone, without, components, power = [], [], [], []
    for x, f_x in held_out.chunks():
        residual = x - f_x
        alone.append(in_float64(residual).square().mean((1, 2, 3)))
        without.append(in_float64(vae.decode(f_x.new_zeros(len(x), d), f_x) - x).square().mean((1, 2, 3)))
        components.append(in_float64(pca.reconstruct(residual) - residual).square().mean((1, 2, 3)))
        power.append(
            torch.stack([in_float64(radial_bands(image, window=True)).sum(0) for image in (residual, x)])
        )
    lost, whole = torch.stack(power).sum(0)
    return {
        "f_x": {"rmse_hu": float(torch.cat(alone).mean().sqrt()), "lost": (lost / whole).tolist()},
        "no_code": {"rmse_hu": float(torch.cat(without).mean().sqrt())},
        "pca": {
            "rmse_hu": float(torch.cat(components).mean().sqrt()),
            "components": d,
            "fitted_to": fitted,
        },
    }
