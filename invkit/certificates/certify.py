"""Refining the first draws of each image onto the layer's fiber: what is shown as invisible is proven so."""

__all__ = ["Certified", "Scrutiny", "certify", "refine_proposals"]

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from invkit.certificates.curve import CURVE_SAMPLES, CurvePoint, path_of
from invkit.certificates.judge import Judge, Placed
from invkit.denoisers.loaded import PIXELS_AT_ONCE
from invkit.errors import SplitError
from invkit.fiber.path import refine_path
from invkit.fiber.refine import Certificates, Refined
from invkit.fiber.retreat import retreating
from invkit.images.region import Region
from invkit.sampling.completion import complete
from invkit.sampling.layer import Target, allowed_spread
from invkit.sampling.spread import squared_deviations
from invkit.verdict.rules import ENOUGH_FOR_A_MAP

Stop = tuple[Tensor, Tensor]
"""Samples that reached one tolerance of the curve, HU, and their distances in units of s_Phi."""


@dataclass(frozen=True)
class Scrutiny:
    """What is measured of refined draws beyond their certificates: their spread at other tolerances, and more.

    Args:
        judge: places them among held-out low-dose images; left out for `None`.
        region: the pixels that the curve is of; all by default.
    """

    judge: Judge | None = None
    region: Region | None = None


@dataclass(frozen=True)
class Certified:
    """The refined draws of one image.

    Args:
        images: x*, `(K, 1, H, W)`, HU; draw k of the image after refinement.
        proposals: what each was refined from, `(K, 1, H, W)`, HU.
        certificates: one entry for each, distances in units of s_Phi.
        f_error: root mean square of f(x*) - f(x), `(K,)`, HU.
        share: part of each proposal's difference from x at which refinement began; 1 unless it failed there, `(K,)`.
        curve: what other tolerances leave of the first of them; empty where it was not asked for.
        placed: where the refined draws stand among held-out images, where that was asked for.
        pixel_scale: s_Phi of the `input` control, HU, where it was given.
        part: of the image's pixels, that spreads are taken over.
    """

    images: Tensor
    proposals: Tensor
    certificates: Certificates
    f_error: Tensor
    share: Tensor
    curve: tuple[CurvePoint, ...] = ()
    placed: Placed | None = None
    pixel_scale: float | None = None
    part: float = 1.0

    @property
    def retreated(self) -> int:
        """How many are certified from nearer to x only."""
        return int((self.certificates.holds.cpu() & (self.share < 1)).sum())

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
        found, scale = self.certificates, self.pixel_scale
        allowed = (
            None if scale is None else allowed_spread(found.epsilon, scale, int(found.holds.sum()), self.part)
        )
        return [
            {
                "image": image,
                "sample": k,
                "certified": bool(found.holds[k]),
                "fiber_error_before": float(found.before[k]),
                "fiber_error": float(found.after[k]),
                "f_error_hu": float(self.f_error[k]),
                "spread_epsilon_hu": allowed,
                "moved_hu": float(found.moved[k]),
                "steps": int(found.steps[k]),
                "products": int(found.products[k]),
                "proposal_share": float(self.share[k]),
                "plausibility": None if self.placed is None else self.placed.rows[k],
            }
            for k in range(len(self.images))
        ]


@torch.no_grad()
def certify(
    draws: Tensor,
    target: Target,
    reconstruction: Tensor,
    *,
    seed: int,
    image: int,
    scrutiny: Scrutiny | None = None,
    epsilon: float | None = None,
) -> Certified | None:
    """Refine draws of one image; `None` where no gradient of the layer reaches the image.

    Args:
        draws: `(K, 1, H, W)`, HU.
        target: the image as the layer sees it.
        reconstruction: what the representation keeps of the image, D(E(x)), `(1, 1, H, W)`, HU.
        seed: of the analysis.
        image: index of the image.
        scrutiny: what else is to be found out; nothing by default.
        epsilon: in units of s_Phi; by default the layer's.
    """
    x = target.x
    proposals = complete(draws.to(x), x - reconstruction, seed=seed, image=image, indices=range(len(draws)))
    return refine_proposals(proposals, target, scrutiny, epsilon)


@torch.no_grad()
def refine_proposals(
    proposals: Tensor,
    target: Target,
    scrutiny: Scrutiny | None = None,
    epsilon: float | None = None,
) -> Certified | None:
    """Refine images of any origin onto the fiber of one image; `None` where no gradient of the layer reaches the image.

    Args:
        proposals: `(K, 1, H, W)`, HU, on the device of x.
        target: the image as the layer sees it.
        scrutiny: what else is to be found out; nothing by default.
        epsilon: in units of s_Phi; by default the layer's.
    """
    layer, split, scale, x = target.layer, target.split, target.scale, target.x
    epsilon = layer.epsilon if epsilon is None else epsilon
    at_once = max(1, PIXELS_AT_ONCE // (x.shape[-2] * x.shape[-1]))
    images, found, errors, shares = [], [], [], []
    stops: list[list[Stop]] = []
    parts = torch.split(proposals, at_once)

    path = (epsilon,) if scrutiny is None else path_of(layer.eta, epsilon)

    def piece(number: int) -> tuple[Tensor, Certificates, Tensor, list[Stop], Tensor] | None:
        levels = path if number * at_once < CURVE_SAMPLES else (epsilon,)
        targets = [level * scale for level in levels]

        def attempt(begun: Tensor) -> list[Refined]:
            return list(refine_path(split.phi, split.phi_grad, begun, target.z, targets, layer.tangent))

        try:
            reached, share = retreating(attempt, x, parts[number], levels.index(epsilon))
        except SplitError:
            return None
        held = [(at.images, at.certificates.after, at.certificates.holds) for at in reached]
        stops = [(made[holds].cpu(), after[holds].cpu() / scale) for made, after, holds in held]
        refined = reached[levels.index(epsilon)]
        error = (target.f(refined.images) - target.f_x).flatten(1).square().mean(1).sqrt()
        return (
            refined.images.cpu(),
            refined.certificates,
            error.cpu(),
            stops if len(levels) > 1 else [],
            share,
        )

    for number in range(len(parts)):
        done = piece(number)
        if done is None:
            return None
        images.append(done[0])
        found.append(done[1])
        errors.append(done[2])
        stops += [done[3]] if done[3] else []
        shares.append(done[4])

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
    tried = sum(len(part) for part in parts[: len(stops)])
    curve = tuple(
        _point(level, tried, at, scrutiny.region if scrutiny else None)
        for level, at in zip(path, zip(*stops, strict=True), strict=False)
    )
    refined = torch.cat(images)
    judge = None if scrutiny is None else scrutiny.judge
    placed = None if judge is None else judge.place(refined, x, target.f_x)
    return Certified(
        refined,
        proposals.cpu(),
        certificates,
        torch.cat(errors),
        torch.cat(shares),
        curve,
        placed,
        None if scrutiny is None else layer.pixel_scale,
        1.0 if scrutiny is None or scrutiny.region is None else scrutiny.region.part,
    )


def _point(level: float, tried: int, stops: Sequence[Stop], region: Region | None) -> CurvePoint:
    images, errors = (torch.cat(parts) for parts in zip(*stops, strict=True))
    squares = squared_deviations(images, region) if len(images) > 1 else torch.zeros(0, dtype=torch.float64)
    return CurvePoint(level, tried, errors, squares)
