"""Refining the first draws of each image onto the layer's fiber: what is shown as invisible is proven so."""

__all__ = ["Certified", "certify", "epsilon_of", "refine_proposals"]

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from invkit.denoisers.loaded import LoadedDenoiser
from invkit.errors import SplitError
from invkit.metrics.verdict import ENOUGH_FOR_A_MAP
from invkit.sampling.completion import complete
from invkit.sampling.refine import Certificates, refine
from invkit.sampling.sampler import Reference

PIXELS_AT_ONCE = 4 * 128 * 128  # larger batches are no faster on a CPU: the activations leave its cache
OF_SCALE, OF_NOISE = 1e-3, 0.02


@dataclass(frozen=True)
class Certified:
    """The refined draws of one image.

    Args:
        images: x*, `(K, 1, H, W)`, HU; draw k of the image after refinement.
        proposals: what each was refined from, `(K, 1, H, W)`, HU.
        certificates: one entry for each, distances in units of s_Phi.
        f_error: root mean square of f(x*) - f(x), `(K,)`, HU.
    """

    images: Tensor
    proposals: Tensor
    certificates: Certificates
    f_error: Tensor

    @property
    def samples(self) -> Tensor:
        """Those in the epsilon-fiber, `(n, 1, H, W)`, HU."""
        return self.images[self.certificates.holds]

    @property
    def enough(self) -> bool:
        """Whether a map of their deviation says anything."""
        return len(self.samples) >= ENOUGH_FOR_A_MAP

    def rows(self, image: int) -> list[dict[str, Any]]:
        """Return one row for each refined draw, as JSON values."""
        found = self.certificates
        return [
            {
                "image": image,
                "sample": k,
                "certified": bool(found.holds[k]),
                "fiber_error_before": float(found.before[k]),
                "fiber_error": float(found.after[k]),
                "f_error_hu": float(self.f_error[k]),
                "moved_hu": float(found.moved[k]),
                "steps": int(found.steps[k]),
                "products": int(found.products[k]),
            }
            for k in range(len(self.images))
        ]


def epsilon_of(eta: float) -> float:
    """Return epsilon in units of s_Phi: a thousandth of it, or a fiftieth of the dose noise's distance if that is less.

    Args:
        eta: distance of Phi between two noise realisations of one anatomy, in units of s_Phi.
    """
    return min(OF_SCALE, OF_NOISE * eta)


@torch.no_grad()
def certify(
    draws: Tensor,
    reference: Reference,
    denoiser: LoadedDenoiser,
    x: Tensor,
    reconstruction: Tensor,
    *,
    epsilon: float,
    seed: int,
    image: int,
) -> Certified | None:
    """Refine draws of one image; `None` where no gradient of the layer reaches the image.

    Args:
        draws: `(K, 1, H, W)`, HU.
        reference: the layer, z of the image, and s_Phi.
        denoiser: f.
        x: the image, `(1, 1, H, W)`, HU.
        reconstruction: D(E(x)), `(1, 1, H, W)`, HU.
        epsilon: in units of s_Phi.
        seed: of the analysis.
        image: index of the image.
    """
    proposals = complete(draws.to(x), x - reconstruction, seed=seed, image=image, indices=range(len(draws)))
    return refine_proposals(proposals, reference, denoiser, x, epsilon=epsilon)


@torch.no_grad()
def refine_proposals(
    proposals: Tensor, reference: Reference, denoiser: LoadedDenoiser, x: Tensor, *, epsilon: float
) -> Certified | None:
    """Refine images of any origin onto the fiber of one image; `None` where no gradient of the layer reaches the image.

    Args:
        proposals: `(K, 1, H, W)`, HU, on the device of x.
        reference: the layer, z of the image, and s_Phi.
        denoiser: f.
        x: the image, `(1, 1, H, W)`, HU.
        epsilon: in units of s_Phi.
    """
    split, scale = reference.split, reference.scale
    f_x = denoiser(x)
    at_once = max(1, PIXELS_AT_ONCE // (x.shape[-2] * x.shape[-1]))
    images, found, errors = [], [], []
    for part in torch.split(proposals, at_once):
        try:
            refined = refine(split.phi, split.phi_grad, part, reference.z, epsilon * scale)
        except SplitError:
            return None
        images.append(refined.images.cpu())
        found.append(refined.certificates)
        errors.append((denoiser(refined.images) - f_x).flatten(1).square().mean(1).sqrt().cpu())

    def joined(name: str) -> Tensor:
        return torch.cat([getattr(one, name).cpu() for one in found])

    certificates = Certificates(
        before=joined("before") / scale,
        after=joined("after") / scale,
        moved=joined("moved"),
        steps=joined("steps"),
        products=joined("products"),
        epsilon=epsilon,
    )
    return Certified(torch.cat(images), proposals.cpu(), certificates, torch.cat(errors))
