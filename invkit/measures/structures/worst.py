"""The strongest low-pass change that a layer does not see at the tolerance, certified, beside that of the image itself."""

__all__ = ["BANDS", "WorstRow", "measure_worst", "strongest"]

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from invkit.measures.structures.hidden import DEVIATIONS, largest_unseen, unseen_distance
from invkit.measures.structures.lowpass import LowPass
from invkit.statistics.intervals import Interval, bootstrap
from invkit.tolerance.layer import Crops, TolerancedLayer
from invkit.training.seeds import generator

BANDS = (0.05, 0.1)  # cycles per pixel, from 0: structures of 10 and of 5 pixels across
SIDE = 64  # pixels, at least, of the crop
LEAST = 8  # pixels on a side, of what is left of it within the frame
POWERS = (2, 8, 40)  # of windows in the mean that stands for the largest, one after the other
STEPS = 25  # for each
NEAR_BOUND = 1.02  # times what was found: within it lies the bound of the noise


@dataclass(frozen=True)
class WorstRow:
    """The strongest change of one band; intervals are over images.

    Args:
        band: highest frequency, cycles per pixel.
        spacing: mm per pixel; `None` where it is not known.
        hidden: root mean square of the change within the frame that the layer does not see, HU.
        identity: the same for the image itself in place of z, at the same tolerance.
        plausible: whether the tolerance bounds it; else the noise does, of which more than two standard deviations are not shown
            as hidden.
    """

    band: float
    spacing: float | None
    hidden: Interval
    identity: Interval
    plausible: bool

    def figures(self) -> Mapping[str, Any]:
        """Return one row of `worst_case`."""
        return {
            "cycles_per_px": self.band,
            "cycles_per_mm": None if self.spacing is None else self.band / self.spacing,
            "hidden_hu": self.hidden,
            "identity_hidden_hu": self.identity,
            "bounded_by": "tolerance" if self.plausible else "noise",
        }


@dataclass(frozen=True)
class _Found:
    hidden: float
    plausible: bool


@torch.no_grad()
def measure_worst(
    layers: Sequence[TolerancedLayer],
    identities: Sequence[TolerancedLayer],
    *,
    spacing: float | None,
    seed: int,
) -> tuple[WorstRow, ...]:
    """Return a row for each band, of a crop in the middle of every image; none where the frame leaves too little of it.

    Args:
        layers: the layer at each image.
        identities: the identity at each image; its own tolerance does not count.
        spacing: mm per pixel.
        seed: of starts and intervals.
    """
    found: list[tuple[list[_Found], list[_Found]]] = []
    for image, (layer, identity) in enumerate(zip(layers, identities, strict=True)):
        ours = _of_image(layer, seed, image)
        if ours:
            found.append((ours, _of_image(identity.beside(layer), seed, image)))

    def of_images(which: int, band: int) -> Interval:
        return bootstrap(torch.tensor([one[which][band].hidden for one in found]), seed=seed)

    return tuple(
        WorstRow(band, spacing, of_images(0, k), of_images(1, k), all(one[0][k].plausible for one in found))
        for k, band in enumerate(BANDS if found else ())
    )


def _of_image(layer: TolerancedLayer, seed: int, image: int) -> list[_Found]:
    """Return what was found in each band; nothing where the crop's interior is too small."""
    frame = layer.frame.pixels or 0
    rows, columns = layer.frame.interior
    middle = torch.tensor([[(rows.start + rows.stop) // 2, (columns.start + columns.stop) // 2]])
    crop = layer.crops(middle, max(SIDE, SIDE // 2 + 2 * frame))
    if min(crop.images.shape[-2:]) - 2 * frame < LEAST:
        return []
    everything = LowPass.of(layer, crop, BANDS[-1])
    found: list[_Found] = []
    last = None
    for band in BANDS:
        changes = everything.below(band)
        n = len(changes.harmonics)
        starts = torch.zeros(3, n)
        starts[0, 0] = 1  # the same everywhere
        starts[1] = torch.randn(n, generator=generator(seed, "worst case", image, str(band)))
        starts[2, : 1 if last is None else len(last)] = 1 if last is None else last
        last = strongest(changes, layer.tolerance, starts)
        found.append(_certified(layer, crop, changes, last))
    return found


def strongest(changes: LowPass, tolerance: float, starts: Tensor) -> Tensor:
    """Return the change of the largest mean square that no window sees, and that is no rarer than two deviations of noise, `(n,)`.

    Rayleigh's quotient of the mean square over the largest window's is ascended from every start, with a power mean of windows in
    place of the largest; for one window that is the generalised eigenvalue problem.

    Args:
        changes: low-pass changes.
        tolerance: in units of S.
        starts: coordinates, `(s, n)`.
    """
    limit = (tolerance / DEVIATIONS) ** 2
    forms = torch.cat([changes.windows, limit * changes.rarity[None]])
    # In coordinates in which the mean over windows is the identity, all directions are about as steep.
    mean = changes.windows.mean(0) + limit * changes.rarity
    root = torch.linalg.cholesky(mean.double()).to(mean)

    def white(form: Tensor) -> Tensor:
        half = torch.linalg.solve_triangular(root, form, upper=False)
        whole: Tensor = torch.linalg.solve_triangular(root, half.mT, upper=False)
        return whole.contiguous()

    forms, area = white(forms), white(changes.area)
    # The strongest where only the mean over windows counts.
    weakest = torch.linalg.eigh(area.double())[1][:, -1].to(area)
    at = torch.cat([starts.to(area) @ root, weakest[None]])
    best, reached = at[0], -torch.inf
    for power in POWERS:
        at = _ascended(forms, area, at / _furthest(forms, at)[:, None], power)
        found = (at @ area * at).sum(1) / _furthest(forms, at).square()
        if float(found.max()) > reached:
            best, reached = at[int(found.argmax())], float(found.max())
    best = best * tolerance / _furthest(forms, best[None])
    found_at: Tensor = torch.linalg.solve_triangular(root.mT, best[:, None], upper=True)
    return found_at[:, 0]


def _seen(forms: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
    """Return every form times coordinates, `(K, n, s)`, and what that is of them, `(K, s)`."""
    count, n, _ = forms.shape
    products = (forms.view(-1, n) @ at.mT).view(count, n, -1)
    return products, (products * at.mT).sum(1)


def _furthest(forms: Tensor, at: Tensor) -> Tensor:
    return _seen(forms, at)[1].amax(0).sqrt()


def _ascended(forms: Tensor, area: Tensor, start: Tensor, power: int) -> Tensor:
    """Return the ascent of log c^T area c - log of the power mean of c^T form c, from every start, by L-BFGS."""
    at = start.clone().requires_grad_()
    search = torch.optim.LBFGS(
        [at], max_iter=STEPS, max_eval=STEPS + 5, history_size=20, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        here = at.detach()
        products, seen = _seen(forms, here)
        most = seen.amax(0)
        parts = (seen / most) ** (power - 1)
        total = (parts * seen / most).sum(0)
        pull = here @ area
        size = (pull * here).sum(1)
        at.grad = -2 * pull / size[:, None] + 2 * (products * (parts / total / most)[:, None]).sum(0).mT
        return (most.log() + total.log() / power - size.log()).sum()

    search.step(loss)
    return at.detach()


def _certified(layer: TolerancedLayer, crop: Crops, changes: LowPass, coordinates: Tensor) -> _Found:
    """Return the larger of what hides of a change and of its negative, as Phi itself has it."""
    d = changes.image(torch.stack([coordinates, -coordinates]))
    both = replace(crop, corners=crop.corners.expand(2, -1))
    most = float((DEVIATIONS**2 / (coordinates @ changes.rarity @ coordinates)).sqrt())
    scale = largest_unseen(layer, both, d).clamp(max=most)
    holds = unseen_distance(layer, both, d)(scale) <= layer.tolerance
    size = float((coordinates @ changes.area @ coordinates).sqrt())
    return _Found(size * float(torch.where(holds, scale, 0.0).max()), plausible=most > NEAR_BOUND)
