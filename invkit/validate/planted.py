"""Planted discs and a planted sign: structures that a proposal brings in survive where the oracle is blind to them alone."""

__all__ = ["check_disc", "check_sign"]

import math

import torch
from torch import Tensor

from invkit.denoisers.oracles.oracle import TAU_DISC
from invkit.split.split import Split
from invkit.validate.rows import LEAST_CERTIFIED, Row, Seeds, certified, overlap
from invkit.validate.trial import SAMPLES, Trial, field_of

SIZE = 32
TILE, RADIUS, RING = 8, 2.0, 3.5  # pixels
NOISE = 5.0  # HU, of proposals
FAINT = TAU_DISC / 3  # HU
HELD = 0.1  # of the largest energy of a pixel, that is found to be free
OTHERS = 64  # images
NEAR = 0.02  # of the wave's coefficient
ALONG = 600.0  # HU: the wave's coefficient in x


def check_disc(split: Split, seeds: Seeds) -> list[Row]:
    """Return what becomes of inserted discs: where the oracle is blind, where it sees, and up to which contrast.

    And whether the discs are found from proposals of noise, which know nothing of them.
    """
    trial = Trial.of(split, seeds, SIZE)
    x = trial.x
    disc, ring = _shapes()
    weights = disc / disc.sum() - ring / ring.sum()
    contrast = torch.nn.functional.conv2d(x, weights[None, None], stride=TILE)[0, 0]
    row, column = divmod(int(contrast.abs().argmin()), contrast.shape[1])
    # The middle of a tile, where there is no noise to hide in, and the corner where four of them meet.
    blind = row * TILE, column * TILE
    seen = tuple(corner + (TILE // 2 if corner < SIZE - TILE else -TILE // 2) for corner in blind)

    def at(shape: Tensor, corner: tuple[int, ...]) -> Tensor:
        image = torch.zeros_like(x)
        image[..., corner[0] : corner[0] + TILE, corner[1] : corner[1] + TILE] = shape
        return image

    noisy = x + NOISE * seeds.randn(SAMPLES, 1, SIZE, SIZE, path="noise")
    inserted = (torch.zeros_like(x), at(disc, blind), at(disc, seen), at(disc + ring, blind))
    found = trial.refine(torch.cat([noisy + FAINT * shape for shape in inserted]))
    plain, faint, elsewhere, large = found.images.chunk(4)
    held = found.certificates.holds.view(4, SAMPLES)

    def survives(changed: Tensor, which: int, weight: Tensor) -> Tensor:
        rows = held[0] & held[which]
        return _inner((changed - plain)[rows], weight) / FAINT

    kept = survives(faint, 1, at(weights, blind))
    others = [survives(elsewhere, 2, at(weights, seen)), survives(large, 3, at(ring / ring.sum(), blind))]
    ladder = x + torch.linspace(0, 3 * TAU_DISC, SAMPLES).view(-1, 1, 1, 1) * at(disc, blind)
    climbed = trial.refine(ladder)
    highest = certified(
        climbed, lambda rows: float(_inner(climbed.images[rows] - x, at(weights, blind)).max())
    )
    limit = TAU_DISC - float(contrast[row, column])
    planted = torch.kron((contrast.abs() < TAU_DISC).float(), disc) > 0

    def agreement(rows: Tensor) -> float:
        energy = (plain[rows] - x).double().square().mean((0, 1))
        return overlap(energy > HELD * energy.max(), planted)

    return [
        Row(
            "planted-disc",
            "smallest share of a faint disc that survives where the oracle is blind",
            _worst(kept, least=True),
            0.9,
            ">=",
        ),
        Row(
            "planted-disc.seen",
            "largest share that survives of a faint disc elsewhere, or of a larger one",
            max(_worst(part, least=False) for part in others),
            0.1,
        ),
        Row(
            "planted-disc.contrast",
            "relative error of the highest contrast found to be invisible",
            abs(highest / limit - 1),
            0.02,
        ),
        Row(
            "planted-disc.found",
            "overlap of the discs found from noise with the planted ones, intersection over union",
            agreement(held[0]) if int(held[0].sum()) >= LEAST_CERTIFIED else math.nan,
            0.9,
            ">=",
        ),
    ]


def check_sign(split: Split, seeds: Seeds) -> list[Row]:
    """Return how far certified samples are from the mirror image, of proposals with the sign of the wave turned over.

    And whether the mirror image is found from proposals that know nothing of it: other images, drawn like x.
    """
    trial = Trial.of(split, seeds, SIZE)
    place = torch.arange(SIZE, dtype=torch.float64)
    wave = torch.cos(2 * math.pi * (0.11 * place[:, None] + 0.07 * place))
    wave = (wave / wave.norm()).float()
    x = trial.x + (ALONG - (trial.x * wave).sum()) * wave
    mirror = x - 2 * ALONG * wave
    trial = Trial(split, x, trial.epsilon)
    found = trial.refine(mirror + NOISE * seeds.randn(SAMPLES, 1, SIZE, SIZE, path="noise"))

    def distance(rows: Tensor) -> float:
        return float((found.images[rows] - mirror).flatten(1).double().norm(dim=1).max()) / (2 * ALONG)

    others = trial.refine(field_of(SIZE).draw(OTHERS, seeds.generator("others")))

    def rarer(rows: Tensor) -> float:
        apart = [(others.images[rows] - image).flatten(1).norm(dim=1) for image in (x, mirror)]
        return min(float((one < NEAR * ALONG).float().mean()) for one in apart)

    changed = 2 * ALONG / SIZE
    measure = f"distance of certified samples from the mirror image, over that of x ({changed:.1f} HU)"
    return [
        Row("planted-sign", measure, certified(found, distance), 0.01),
        Row(
            "planted-sign.found",
            "share of the certified samples of other images that are x or the mirror image, whichever is smaller",
            certified(others, rarer),
            0.2,
            ">=",
        ),
    ]


def _shapes() -> tuple[Tensor, Tensor]:
    """Return a disc and the ring around it, `(TILE, TILE)`."""
    offset = torch.arange(TILE) - TILE // 2
    squares = offset.square()[:, None] + offset.square()
    return (squares <= RADIUS**2).float(), ((squares > RADIUS**2) & (squares <= RING**2)).float()


def _inner(images: Tensor, weight: Tensor) -> Tensor:
    return (images.double() * weight).sum((-3, -2, -1))


def _worst(parts: Tensor, *, least: bool) -> float:
    if len(parts) < SAMPLES // 2:
        return math.nan
    return float(parts.min() if least else parts.abs().max())
