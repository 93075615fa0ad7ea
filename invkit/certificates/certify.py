"""Images with certificates: what no window of the layer tells from x by more than the tolerance, computed by Phi itself."""

__all__ = ["CHANGE", "F_CHANGE", "Certified", "certified_draws", "fewest", "refine_proposals"]

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from invkit.denoisers.loaded import PIXELS_AT_ONCE, LoadedDenoiser
from invkit.errors import SplitError
from invkit.fiber.refine import Refined, refine
from invkit.fiber.retreat import retreating
from invkit.posterior.draws import PosteriorDraws
from invkit.tolerance.layer import TolerancedLayer
from invkit.training.precision import in_float64
from invkit.verdict.rules import ENOUGH_FOR_A_MAP

CHANGE, F_CHANGE = "interior_change_hu", "interior_f_change_hu"  # of x* and of f of it, at a branch


@dataclass(frozen=True)
class Certified:
    """Images of one x, and the certificate of each.

    Args:
        images: x*, `(K, 1, H, W)`, HU, of the size of the image under test; they differ from x within its window alone.
        distances: of each from x, in repeat scans, the largest over windows, `(K,)`, float64.
        tolerance: that a certificate keeps, in repeat scans.
        f_error: root mean square of f(x*) - f(x) in the window, `(K,)`, HU.
        moved: of x* - x for draws, of x* less what was proposed for refined images; root mean square there, `(K,)`, HU.
        interior: rows and columns within the frame, where spreads are taken.
        details: what else is known of each, `(K,)`, by the key that it has in JSON.
        rejected: how many attempts at draws failed in a window, and were drawn again.
        changed: by how much that changes their spread, as a part of it.
    """

    images: Tensor
    distances: Tensor
    tolerance: float
    f_error: Tensor
    moved: Tensor
    interior: tuple[slice, slice]
    details: dict[str, Tensor] = field(default_factory=dict)
    rejected: int = 0
    changed: float = 0.0

    @property
    def holds(self) -> Tensor:
        """Which of them are certified, `(K,)`."""
        return self.distances <= self.tolerance

    @property
    def samples(self) -> Tensor:
        """Those that are certified, `(n, 1, H, W)`, HU."""
        return self.images[self.holds]

    @property
    def enough(self) -> bool:
        """Whether a map of their deviation says anything."""
        return int(self.holds.sum()) >= ENOUGH_FOR_A_MAP

    def inside(self, images: Tensor) -> Tensor:
        """Return images `(..., H, W)` within the frame."""
        return images[(..., *self.interior)]

    def rows(self, image: int) -> list[dict[str, Any]]:
        """Return one row for each, as JSON values."""
        return [
            {
                "image": image,
                "sample": k,
                "certified": bool(self.holds[k]),
                "distance": float(self.distances[k]),
                "f_error_hu": float(self.f_error[k]),
                "moved_hu": float(self.moved[k]),
                **{name: values[k].item() for name, values in self.details.items()},
            }
            for k in range(len(self.images))
        ]


@torch.no_grad()
def certified_draws(
    draws: PosteriorDraws, layer: TolerancedLayer, x: Tensor, f: LoadedDenoiser, *, branch: bool = False
) -> Certified:
    """Return draws of the posterior with their certificates.

    Args:
        draws: of the layer at x, or at what was cut out of it.
        layer: with its tolerance.
        x: the image under test, `(1, 1, H, W)`, HU.
        f: the denoiser.
        branch: whether something goes round the layer; then it is told what becomes of each draw at the output.
    """
    interior = layer.frame.interior
    first, kept = ((part - layer.x)[(..., *interior)] for part in (draws.first, draws.images[draws.holds]))
    # About x, which is the mean of what is drawn: a ratio of two spreads of the same draws for the most part.
    before, after = (
        float(in_float64(part).square().mean().sqrt()) if len(part) else 0.0 for part in (first, kept)
    )
    f_error, passed = _at_output(draws.images, layer, f)
    return Certified(
        images=_put_back(draws.images, layer, x).cpu(),
        distances=draws.distances.cpu(),
        tolerance=layer.tolerance,
        f_error=f_error,
        moved=_rms(draws.images - layer.x),
        interior=layer.interior,
        details={"steps": draws.steps, "products": draws.products, **(passed if branch else {})},
        rejected=draws.rejected,
        changed=after / before - 1 if before > 0 and after > 0 else 0.0,
    )


@torch.no_grad()
def refine_proposals(
    proposals: Tensor, layer: TolerancedLayer, x: Tensor, f: LoadedDenoiser, *, branch: bool = False
) -> Certified | None:
    """Refine images of any origin until no window tells them from x; `None` where no gradient of the layer reaches the image.

    They are witnesses that such images exist. What they vary by is that of the proposals, for refinement moves each by as
    little as it can.

    Args:
        proposals: of the size of x, `(K, 1, H, W)`, HU, on its device.
        layer: with its tolerance, at x or at what was cut out of it.
        x: the image under test, `(1, 1, H, W)`, HU.
        f: the denoiser.
        branch: as for `certified_draws`.
    """
    height, width = layer.x.shape[-2:]
    top, left = layer.origin
    split, here, where = layer.split, layer.x, None
    cut = proposals[..., top : top + height, left : left + width]
    if layer.frame.inner is not None:
        where = torch.zeros_like(here[0, 0])
        where[layer.frame.inner] = 1
        cut = torch.where(where > 0, cut, here)
    z, metric = split.phi(here), replace(layer.windows.metric, where=where)
    at_once = max(1, PIXELS_AT_ONCE // (height * width))

    def attempt(begun: Tensor) -> Refined:
        return refine(
            split.phi,
            split.phi_grad,
            begun,
            z,
            layer.tolerance,
            tangent=layer.tangent,
            metric=metric,
        )

    found: list[tuple[Refined, Tensor]] = []
    for part in cut.split(at_once):
        try:
            found.append(retreating(attempt, here, part))
        except SplitError:
            return None

    def joined(of: Callable[[Refined], Tensor]) -> Tensor:
        return torch.cat([of(one).cpu() for one, _ in found])

    images = torch.cat([one.images for one, _ in found])
    f_error, passed = _at_output(images, layer, f)
    return Certified(
        images=_put_back(images, layer, x).cpu(),
        distances=joined(lambda one: one.certificates.after),
        tolerance=layer.tolerance,
        f_error=f_error,
        moved=joined(lambda one: one.certificates.moved),
        interior=layer.interior,
        details={
            "distance_before": joined(lambda one: one.certificates.before),
            "steps": joined(lambda one: one.certificates.steps),
            "products": joined(lambda one: one.certificates.products),
            "proposal_share": torch.cat([share for _, share in found]),
            **(passed if branch else {}),
        },
    )


def _put_back(images: Tensor, layer: TolerancedLayer, x: Tensor) -> Tensor:
    """Return images of the size of x in which what was cut out of it is replaced, `(K, 1, H, W)`."""
    height, width = layer.x.shape[-2:]
    if (height, width) == tuple(x.shape[-2:]):
        return images
    top, left = layer.origin
    whole = x.repeat(len(images), 1, 1, 1)
    whole[..., top : top + height, left : left + width] = images
    return whole


def _at_output(images: Tensor, layer: TolerancedLayer, f: LoadedDenoiser) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the change of f in the window, and x* - x beside f(x*) - f(x) on the interior, if there is any: RMS, `(K,)`, HU."""
    inside = (..., *layer.frame.interior)
    changes = [f(one) - layer.f_x for one in images.split(2)]
    whole = torch.cat([_rms(change) for change in changes]) if changes else torch.zeros(0)
    if not len(images) or (images - layer.x)[inside].numel() == 0:
        return whole, {}
    return whole, {
        CHANGE: _rms((images - layer.x)[inside]),
        F_CHANGE: torch.cat([_rms(change[inside]) for change in changes]),
    }


def _rms(difference: Tensor) -> Tensor:
    return difference.flatten(1).square().mean(1).sqrt().cpu()


def fewest(found: Sequence[Certified]) -> int:
    """Return how many are certified of the image with the fewest."""
    return min(int(one.holds.sum()) for one in found)
