"""How much of a change of anatomy survives in the epsilon-fiber: proposals refined, certified, and what is left measured."""

__all__ = ["Survival", "survive"]

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from invkit.denoisers.loaded import PIXELS_AT_ONCE
from invkit.fiber.distance import Activation
from invkit.fiber.refine import refine
from invkit.fiber.tangent import Tangent
from invkit.measures.changes.propose import Change


@dataclass(frozen=True)
class Survival:
    """What refinement left of one proposed change.

    Args:
        change: as proposed.
        proposal: number of the set that it was refined in; changes of one set share an image.
        image: x*, the refined proposal, `(1, H, W)`, HU.
        distance: of Phi(x*) from z, units of the activation.
        certified: whether x* lies in the epsilon-fiber.
        left: contrast left of each structure, `(P,)`, HU; below 0 where it turned into its opposite.
    """

    change: Change
    proposal: int
    image: Tensor
    distance: float
    certified: bool
    left: Tensor


def survive(
    phi: Callable[[Tensor], Activation],
    phi_grad: Callable[[Tensor], Activation],
    x: Tensor,
    changes: Sequence[Sequence[Change]],
    epsilon: float,
    tangent: Tangent | None = None,
) -> list[Survival]:
    """Refine x + changes onto the fiber of x, for each set of changes, and measure the contrast that is left of each change.

    The least change that leads back into the fiber is looked for. So what is left of a proposal is, where Phi is linear, its
    projection on what the layer does not see; a structure that the layer sees in full vanishes. A certified image with a
    contrast left proves that such an image exists: a lower bound for what the layer ignores. Nothing left proves
    nothing of changes that were not tried.

    Args:
        phi: the layer, without gradient (`Split.phi`).
        phi_grad: the same, differentiable with respect to the image (`Split.phi_grad`).
        x: the image, `(1, 1, H, W)`, HU.
        changes: what is proposed; those of one set are put into one image, and one certificate answers for all of them.
        epsilon: largest root mean square distance from z, units of the activation.
        tangent: of `phi_grad`, where it was traced before.

    Raises:
        SplitError: no gradient of the layer reaches the image.
    """
    if not changes:
        return []
    z = phi(x)
    proposals = x + torch.stack([sum_of(together) for together in changes]).to(x)
    at_once = max(1, PIXELS_AT_ONCE // (x.shape[-2] * x.shape[-1]))
    tangent = tangent or Tangent(phi_grad)
    images, distances = [], []
    for part in torch.split(proposals, at_once):
        refined = refine(phi, phi_grad, part, z, epsilon, tangent=tangent)
        images.append(refined.images)
        distances.append(refined.certificates.after.cpu())
    found = []
    rows = zip(changes, torch.cat(images), torch.cat(distances), strict=True)
    for proposal, (together, image, distance) in enumerate(rows):
        holds = bool(distance <= epsilon)
        for change in together:
            left = change.left(image - x[0]).cpu()
            found.append(Survival(change, proposal, image, float(distance), holds, left))
    return found


def sum_of(changes: Sequence[Change]) -> Tensor:
    """Return what all of the changes add to the image, `(1, H, W)`, HU."""
    return torch.stack([change.whole for change in changes]).sum(0)
