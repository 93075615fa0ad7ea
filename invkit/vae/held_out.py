"""What a VAE keeps of patches of patients that it was not trained on."""

__all__ = [
    "CHUNK",
    "Coded",
    "PatchSource",
    "first_patches",
    "held_out_figures",
    "patch_feed",
    "pca_figures",
    "reconstruction_figures",
]

from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import torch
from torch import Tensor

from invkit.data.patches import Domain, PatchBatch
from invkit.images.bands import radial_bands
from invkit.training.feed import Feed
from invkit.training.precision import in_float64
from invkit.training.processes.distributed import Shard
from invkit.training.seeds import generator
from invkit.vae.pca import fit_pca
from invkit.vae.vae import Posterior, VaeConfig

QUANTILES = (0.5, 0.9, 0.99)
CHUNK = 64


class Coded(Protocol):
    """A VAE as far as its figures need it, whatever its codes look like."""

    @property
    def device(self) -> torch.device:
        """Where it computes."""

    def encode(self, x_hu: Tensor) -> Posterior:
        """Return the posterior of the codes of patches `(B, 1, s, s)`, HU."""

    def decode(self, z_bar: Tensor) -> Tensor:
        """Return the patches of codes, HU."""


class PatchSource(Protocol):
    """Anything that draws numbered batches of patch pairs, as `PatchSampler` does."""

    def batch(self, step: int, n: int, shard: slice | None = None) -> PatchBatch:
        """Return batch number `step` of `n` patches, or a part of it."""


def first_patches(source: PatchSource, domain: Domain, batch: int, count: int) -> Tensor:
    """Return the first `count` patches that a training with this batch size sees, or a few more."""
    return torch.cat([source.batch(step, batch).of(domain) for step in range(-(-count // batch))])


def patch_feed(
    source: PatchSource, domain: Domain, count: int, device: torch.device
) -> Feed[tuple[int, Shard]]:
    """Return the patches `(count / world, 1, s, s)` in HU that a training sees, by step and shard."""

    def part(key: tuple[int, Shard]) -> tuple[Tensor]:
        step, shard = key
        return (source.batch(step, count, None if shard.world == 1 else shard.slice(count)).of(domain),)

    return Feed(part, device)


def _chunks(source: PatchSource, domain: Domain, count: int) -> Iterator[Tensor]:
    """Yield `count` patches in numbered batches of fixed size; the last is cut."""
    for number, start in enumerate(range(0, count, CHUNK)):
        yield source.batch(number, CHUNK).of(domain)[: count - start]


@torch.no_grad()
def held_out_figures(vae: Coded, held_out: PatchSource, domain: Domain, count: int) -> dict[str, Any]:
    """Return what the reconstruction D(mean of E(x)) keeps of held-out patches.

    Args:
        vae: in eval mode.
        held_out: patches of patients that were not trained on.
        domain: which image of a pair.
        count: number of patches.

    Returns:
        `patches`; `rmse_hu`, over all pixels; `rmse_quantiles_hu`, of the RMSE of single patches at 0.5, 0.9
        and 0.99 (a patch above the last is outside of the distribution that was trained on); `bands`, energy
        of the reconstruction over that of x in ten radial bands, Hann-windowed; `bands_plain`, the same
        without a window, where leakage flatters; `lost`, power of x - D(E(x)) over that of x in the same
        bands, windowed; `kl_per_dim`, nats.
    """
    device = vae.device

    def parts() -> Iterator[tuple[Tensor, Posterior, Tensor]]:
        for x in _chunks(held_out, domain, count):
            posterior = vae.encode(x.to(device))
            yield x.to(device), posterior, vae.decode(posterior.mean)

    return reconstruction_figures(parts())


@torch.no_grad()
def reconstruction_figures(parts: Iterable[tuple[Tensor, Posterior, Tensor]]) -> dict[str, Any]:
    """Return the figures of `held_out_figures` of reconstructions that are made already.

    Args:
        parts: patches `(n, 1, s, s)` in HU, the posteriors of their codes, and what these were decoded to, some at a time.
    """
    errors, powers, kl = [], [], []
    for x, posterior, x_bar in parts:
        errors.append(in_float64(x - x_bar).square().mean(dim=(1, 2, 3)))
        kinds = [(image, w) for w in (True, False) for image in (x_bar, x)] + [(x - x_bar, True)]
        powers.append(torch.stack([in_float64(radial_bands(image, window=w)).sum(0) for image, w in kinds]))
        kl.append(in_float64(posterior.kl()) / posterior.mean[0].numel())
    squared = torch.cat(errors)
    power = torch.stack(powers).sum(0)
    at = torch.tensor(QUANTILES, dtype=torch.float64, device=squared.device)
    return {
        "patches": len(squared),
        "rmse_hu": float(squared.mean().sqrt()),
        "rmse_quantiles_hu": {
            str(q): float(value) for q, value in zip(QUANTILES, squared.sqrt().quantile(at), strict=True)
        },
        "bands": (power[0] / power[1]).tolist(),
        "bands_plain": (power[2] / power[3]).tolist(),
        "lost": (power[4] / power[1]).tolist(),
        "kl_per_dim": float(torch.cat(kl).mean()),
    }


@torch.no_grad()
def pca_figures(
    sampler: PatchSource, held_out: PatchSource, domain: Domain, config: VaeConfig, seed: int
) -> dict[str, Any]:
    """Return the RMSE on the held-out patches of PCA with d numbers, fitted to the first training batches."""
    patches = first_patches(sampler, domain, config.batch, config.pca_patches)
    pca = fit_pca(patches, config.d, generator=generator(seed, "vae", "pca"))
    fitted = len(patches)
    del patches
    errors = [
        in_float64(pca.reconstruct(x) - x).square().mean(dim=(1, 2, 3))
        for x in _chunks(held_out, domain, config.held_out)
    ]
    return {"rmse_hu": float(torch.cat(errors).mean().sqrt()), "components": config.d, "fitted_to": fitted}
