"""The two lengths that a layer's distances are given in: s_Phi and eta, measured on held-out body patches."""

__all__ = ["ScaleRequest", "find_scales", "layer_scales", "scale_sampler"]

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from invkit import artifacts
from invkit.data.dose.texture import noise_texture
from invkit.data.patches import PatchBatch, PatchSampler
from invkit.data.slices import SliceSet
from invkit.denoisers.loaded import AT_ONCE
from invkit.fiber.scale import activation_scale, dose_noise_distance
from invkit.parts.store import Store
from invkit.split.split import Split
from invkit.training.lock import exclusive
from invkit.training.seeds import derive_seed, generator

KIND = "scale"
PATCH = 128  # as of the bundled VAEs, so that figures of all samplers have one unit
BATCH = 32


def layer_scales(
    split: Split, sampler: PatchSampler, *, pairs: int, seed: int, device: torch.device | str
) -> tuple[float, float]:
    """Return s_Phi, and eta in units of it; 1 and 0 for a layer that is the same for all images.

    Args:
        split: the layer.
        sampler: of held-out body patches of one dose.
        pairs: pairs of patches behind s_Phi; half as many patches are drawn, at least 32.
        seed: of the training that the scales belong to.
        device: where Phi runs.
    """
    batches = [sampler.batch(step, BATCH) for step in range(-(-pairs // (2 * BATCH)))]
    images = torch.cat([batch.x for batch in batches]).to(device)
    scale = activation_scale(
        split.phi, images, pairs, seed=derive_seed(seed, "layer", "pairs"), batch=AT_ONCE
    )
    if scale == 0:
        return 1.0, 0.0  # const: nothing is ever far from anything
    y = torch.cat([batch.y for batch in batches])
    draws = torch.stack([_dose_noise(sampler, batches, seed, draw) for draw in range(2)])
    distances = [
        dose_noise_distance(split.phi, part.to(device), added.to(device), scale=scale)
        for part, added in zip(torch.split(y, AT_ONCE), torch.split(draws, AT_ONCE, dim=1), strict=True)
    ]
    return scale, torch.cat(distances).square().mean().sqrt().item()


def _dose_noise(sampler: PatchSampler, batches: Sequence[PatchBatch], seed: int, draw: int) -> Tensor:
    """Return a fresh draw of what the lower dose adds to patches, `(n, 1, s, s)`, HU."""
    if sampler.physical:
        again = [sampler.batch(step, BATCH, redraw=draw + 1) for step in range(len(batches))]
        return torch.cat([batch.x - batch.y for batch in again])
    noise = torch.cat([batch.noise for batch in batches]).view(-1, 1, 1, 1)
    height, width = batches[0].y.shape[-2:]
    random = generator(derive_seed(seed, "layer", "eta"), draw)
    return noise * noise_texture(len(noise), height, width, generator=random)


def scale_sampler(slices: SliceSet, *, dose: float, seed: int, size: int = PATCH) -> PatchSampler:
    """Return what the held-out patches behind a layer's scales are drawn by."""
    return PatchSampler(slices.part("test"), size, dose=dose, seed=derive_seed(seed, "layer", "test"))


@dataclass(frozen=True)
class ScaleRequest:
    """What decides a layer's scales.

    Args:
        split: the layer.
        slices: whose test part the patches are drawn from.
        pairs: of patches.
        dose: of the patches, as a fraction of the high dose.
        seed: decides every patch.
    """

    split: Split
    slices: SliceSet
    pairs: int
    dose: float
    seed: int = 0

    def describe(self) -> dict[str, object]:
        """Return the request as JSON values; its fingerprint is the key of the result."""
        return {
            "kind": KIND,
            "phi": self.split.describe(),
            "data": self.slices.fingerprint,
            "pairs": self.pairs,
            "dose": self.dose,
            "seed": self.seed,
        }


def find_scales(request: ScaleRequest, store: Store, *, device: torch.device | str) -> tuple[float, float]:
    """Return the kept scales of a layer without a trained model, or measure and keep them.

    They are those of a cINN that is trained on the same data with the same seed, so distances have one unit for all samplers.

    Raises:
        ArtifactError: the kept file is damaged.
        ResourceError: it cannot be written.
    """
    key = store.key(request.describe())
    with exclusive(store.work(KIND, key)):
        found = store.find(KIND, key)
        if found is None:
            sampler = scale_sampler(request.slices, dose=request.dose, seed=request.seed)
            scale, eta = layer_scales(
                request.split, sampler, pairs=request.pairs, seed=request.seed, device=device
            )
            figures = torch.tensor([scale, eta], dtype=torch.float64)
            artifacts.save(
                store.path(KIND, key),
                {"scale_and_eta": figures},
                kind=KIND,
                meta={**request.describe(), "key": key},
            )
        else:
            figures = artifacts.load(found[0], kind=KIND, sha256=found[1]).tensors["scale_and_eta"]
    return float(figures[0]), float(figures[1])
