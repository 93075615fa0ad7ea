"""What varies in the certified samples of a layer, and what cannot be made to vary, at a bounded cost."""

__all__ = ["Scene", "Variation", "Window", "choose_window", "concluded", "measure_variation"]

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor
from torch.nn import functional

from invkit.certificates.certify import Certified
from invkit.data.dose.image import estimate_noise
from invkit.data.dose.texture import noise_texture
from invkit.denoisers.loaded import LoadedDenoiser
from invkit.errors import InputError, SplitError
from invkit.fiber.scale import activation_scale
from invkit.images.disc import SOFT_TISSUE
from invkit.images.region import Region
from invkit.measures.changes.summary import RADII, Anatomy, proposals, summarise
from invkit.measures.changes.survive import Survival, survive
from invkit.measures.diversity import Diversity, diversity
from invkit.measures.gain import GainRatios, gain_ratios
from invkit.measures.lesion import DiscSearch, LesionCurve, lesion_curves
from invkit.measures.noise_split import NoiseSplit, split_noise_anatomy
from invkit.measures.transfer import Judged, transfer
from invkit.sampling.base import SampleModel
from invkit.sampling.layer import ScaledLayer, allowed_spread
from invkit.split.split import Split
from invkit.statistics.intervals import Interval
from invkit.training.seeds import derive_seed, generator
from invkit.verdict.conclusion import ChangeFound, Conclusion, Evidence, conclude, lost_power
from invkit.verdict.measures import Measures
from invkit.verdict.rules import Verdict

SIDE = 128  # pixels: of larger images a window is measured
IMAGES = 4  # that the costly measures are taken on
SCANS = 64  # differences of two noise realisations
DIRECTIONS = 4  # of each kind, for the Jacobian
REFERENCE_IMAGES = 8
DISCS = 4  # places for each size
HALVINGS = 2
STRICT = 0.1  # of epsilon: a local change is diluted by the mean over all elements of the activation


@dataclass(frozen=True)
class Window:
    """The part of an image that is measured, as a separate image.

    Args:
        rows: of the image.
        columns: of the image.
        whole: whether it is all of the image.
    """

    rows: slice
    columns: slice
    whole: bool

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns, pixels."""
        return self.rows.stop - self.rows.start, self.columns.stop - self.columns.start

    def crop(self, images: Tensor) -> Tensor:
        """Return it of images `(..., H, W)`."""
        return images[..., self.rows, self.columns]

    def part(self, size: Sequence[int]) -> float:
        """Return how much of an image of this size `(H, W)` it is, in (0, 1]."""
        return self.size[0] * self.size[1] / (size[0] * size[1])

    def figures(self) -> dict[str, Any]:
        """Return place and size in pixels."""
        return {
            "row": self.rows.start,
            "column": self.columns.start,
            "height": self.size[0],
            "width": self.size[1],
            "whole": self.whole,
        }


@dataclass(frozen=True)
class Variation:
    """What was measured; `None` for what could not be.

    Args:
        window: of the first image.
        images: how many of the images were measured.
        diversity: of the certified samples.
        gain: of the layer along their differences from x.
        split: of these differences into noise and anatomy.
        noise: noise that is proven to be invisible to the layer, HU: the larger of what the certified samples and those
            of the training-free sampler show.
        allowed: what epsilon alone would allow of it in the window, HU.
        anatomy: what is left of changes of anatomy.
        lesions: contrast of the disc that the layer sees, with `epsilon` and `eta` as the threshold.
        transfer: the certified samples under another denoiser.
        lost: share of the power beyond noise that the representation loses of coarse structures.
    """

    window: Window
    images: int
    diversity: Diversity | None
    gain: GainRatios | None
    split: NoiseSplit | None
    noise: Interval | None
    allowed: float
    anatomy: Anatomy | None
    lesions: dict[str, LesionCurve]
    transfer: dict[str, Any] | None
    lost: float | None = None

    def figures(self) -> dict[str, Any]:
        """Return the figures by their keys, without what could not be measured."""
        found: dict[str, Any] = {
            "window": self.window,
            "images": self.images,
            "noise_hu": self.noise,
            "noise_epsilon_hu": self.allowed,
            "representation_lost": self.lost,
        }
        for name in ("diversity", "gain", "split", "anatomy"):
            value = getattr(self, name)
            if value is not None:
                found[name] = value
        if self.lesions:
            found["lesion"] = self.lesions
        if self.transfer is not None:
            found["transfer"] = self.transfer
        return found


def choose_window(x: Tensor, region: Region | None = None) -> Window:
    """Return the part of an image `(1, 1, H, W)`, HU, to be measured: all of it up to 128 x 128 pixels.

    Of a larger image it is the window of that size around the region's middle, or the one with the most soft tissue.
    """
    height, width = x.shape[-2:]
    rows, columns = min(height, SIDE), min(width, SIDE)
    if (rows, columns) == (height, width):
        return Window(slice(0, height), slice(0, width), whole=True)
    if region is not None:
        top, left = (
            min(max((side.start + side.stop - length) // 2, 0), limit - length)
            for side, length, limit in zip(region.box, (rows, columns), (height, width), strict=True)
        )
    else:
        tissue = ((x > SOFT_TISSUE[0]) & (x < SOFT_TISSUE[1])).float()
        step = 16
        share = functional.avg_pool2d(tissue, (rows, columns), stride=step)[0, 0]
        best = int(share.argmax())
        top, left = (best // share.shape[1]) * step, (best % share.shape[1]) * step
    return Window(slice(top, top + rows), slice(left, left + columns), whole=False)


@dataclass(frozen=True)
class Scene:
    """The images of an analysis, and what their variation is compared with.

    Args:
        x: the images, `(B, 1, H, W)`, HU.
        reference_images: others of the same dose and size, `(n, 1, H, W)`, HU.
        seed: of the analysis.
        region: that the window is laid around.
        spacing: of the pixels, mm, where it is known.
        beside: another denoiser, for the transfer.
    """

    x: Tensor
    reference_images: Tensor
    seed: int
    region: Region | None = None
    spacing: float | None = None
    beside: LoadedDenoiser | None = None


def measure_variation(
    layer: ScaledLayer,
    scene: Scene,
    certified: Sequence[Certified],
    free: Sequence[Certified] = (),
    *,
    model: SampleModel | None = None,
    reconstruction: Tensor | None = None,
) -> Variation:
    """Measure what varies and what does not, on the first four images and on a window of large ones.

    Args:
        layer: under test.
        scene: the images.
        certified: for each image its refined draws.
        free: for each image those of the training-free sampler; may be empty.
        model: of the layer, if one was trained: changes of v are proposed by it.
        reconstruction: D(E(x)), `(B, 1, H, W)`, HU, if there is one.

    Raises:
        SplitError: no gradient of the layer reaches the image.
    """
    split, epsilon, x, seed = layer.split, layer.epsilon, scene.x, scene.seed
    count = min(len(x), IMAGES)
    windows = [choose_window(one[None], scene.region) for one in x[:count]]
    seen = [window.crop(one[None]) for window, one in zip(windows, x, strict=False)]
    others = windows[0].crop(scene.reference_images[:REFERENCE_IMAGES])

    def differences(found: Sequence[Certified]) -> list[Tensor]:
        return [
            window.crop(one.samples.to(part) - image[None].to(part))
            for window, part, one, image in zip(windows, seen, found, x, strict=False)
        ]

    scans = [
        _scans(part, window, one[None], seed, index)
        for index, (part, window, one) in enumerate(zip(seen, windows, x, strict=False))
    ]
    noisy = all(bool((one != 0).any()) for one in scans)
    moved = differences(certified)
    enough = bool(moved) and all(len(one) >= 2 and bool((one != 0).any()) for one in moved)
    split_of = _split(moved, scans, seed) if enough and noisy else None
    known = [] if split_of is None else [split_of.noise]
    apart = differences(free)
    if noisy and apart and all(len(one) >= 2 and bool((one != 0).any()) for one in apart):
        known.append(_split(apart, scans, seed).noise)
    survivals: list[list[Survival]] = []
    for index, part in enumerate(seen):
        changes = proposals(
            model, part, split.phi(part), others[:1], seed=derive_seed(seed, "anatomy", index) % 2**31
        )
        strict = STRICT * epsilon * layer.scale
        survivals.append(survive(split.phi, split.phi_grad, part, changes, strict, layer.tangent))
    thresholds = {"epsilon": epsilon * layer.scale, "eta": layer.eta * layer.scale}
    return Variation(
        window=windows[0],
        images=count,
        diversity=diversity(moved, seed=seed) if enough else None,
        gain=_gain(split, seen, moved, scans, seed) if enough and noisy else None,
        split=split_of,
        noise=max(known, key=lambda one: one.value, default=None),
        # Certificates are of the whole image: all of their tolerance may have been spent in the window.
        allowed=allowed_spread(epsilon, layer.pixel_scale, 1, windows[0].part(x.shape[-2:])),
        anatomy=summarise(
            survivals,
            scans,
            epsilon=STRICT * epsilon,
            tolerance=STRICT * layer.epsilon_hu,
            seed=seed,
        ),
        lesions=_lesions(split, seen, thresholds, seed, scene.spacing),
        lost=None
        if reconstruction is None or min(seen[0].shape[-2:]) < 20
        else max(
            lost_power(part, window.crop(one[None]).to(part), noise)
            for part, window, one, noise in zip(seen, windows, reconstruction, scans, strict=False)
        ),
        transfer=None
        if scene.beside is None or not enough
        else _transfer(layer, seen, moved, others, scene.beside, seed),
    )


def _scans(part: Tensor, window: Window, image: Tensor, seed: int, index: int) -> Tensor:
    """Return differences of two scans of the same anatomy at the image's dose, of the window's size."""
    noise = noise_texture(
        2 * SCANS, part.shape[-2], part.shape[-1], generator=generator(seed, "scans", index)
    )
    level = estimate_noise(part[0, 0] if window.whole else image[0, 0])
    return (level * (noise[:SCANS] - noise[SCANS:])).to(part)


def _split(moved: Sequence[Tensor], scans: Sequence[Tensor], seed: int) -> NoiseSplit:
    side = min(moved[0].shape[-2:])
    return split_noise_anatomy(moved, scans, bands=max(1, min(10, side // 4)), seed=seed)


def _gain(
    split: Split, seen: Sequence[Tensor], moved: Sequence[Tensor], scans: Sequence[Tensor], seed: int
) -> GainRatios | None:
    """Return the layer's gain along a few directions; `None` where torch has no derivative, or it answers to nothing."""
    chosen = [one[(one != 0).flatten(1).any(1)][:DIRECTIONS] for one in moved]
    try:
        return gain_ratios(
            split.phi_grad,
            seen,
            chosen,
            [one[:DIRECTIONS] for one in scans],
            random=DIRECTIONS,
            seed=seed,
        )
    except (InputError, NotImplementedError, RuntimeError):
        # The first where the layer answers to nothing; torch has the others for operations without a derivative.
        return None


def _lesions(
    split: Split, seen: Sequence[Tensor], thresholds: dict[str, float], seed: int, spacing: float | None
) -> dict[str, LesionCurve]:
    try:
        return lesion_curves(
            split.phi,
            seen,
            {name: [threshold] * len(seen) for name, threshold in thresholds.items() if threshold > 0},
            RADII,
            search=DiscSearch(places=DISCS, halvings=HALVINGS),
            spacing=spacing,
            seed=seed,
        )
    except InputError:
        # There is no soft tissue for a disc, so nothing is said.
        return {}


def _transfer(
    layer: ScaledLayer,
    seen: Sequence[Tensor],
    moved: Sequence[Tensor],
    references: Tensor,
    beside: LoadedDenoiser,
    seed: int,
) -> dict[str, Any] | None:
    """Return how another denoiser's output responds to the certified samples, compared with other images."""
    try:
        other = Split(beside, "output")
    except SplitError:
        return None
    unit = (
        activation_scale(other.phi, references, 2 * len(references), seed=seed)
        if len(references) > 1
        else 0.0
    )
    if not unit > 0:
        return None
    found = transfer(
        {"own": Judged(layer.split.phi, layer.scale), "other": Judged(other.phi, unit)},
        seen,
        {"own": [part + difference for part, difference in zip(seen, moved, strict=True)]},
        references=references,
        seed=seed,
    )
    return {
        "denoiser": beside.name,
        "layer": "output",
        "error_own": found.error["own"]["own"],
        "error": found.error["own"]["other"],
        "error_random": found.random["other"],
    }


def concluded(
    measures: Measures, verdict: Verdict, found: Variation | None, unrefined: str
) -> tuple[Conclusion | None, Verdict]:
    """Return the conclusion on a layer, and its verdict with that sentence first.

    Args:
        measures: what the verdict was drawn from.
        verdict: of the layer.
        found: what varies; `None` where nothing was refined.
        unrefined: why, or nothing.
    """
    evidence = Evidence(unrefined=unrefined)
    if found is not None:
        strongest = None if found.anatomy is None else found.anatomy.strongest
        split = found.split
        beyond = split is not None and split.found and split.anatomy.above(Interval(found.allowed))
        evidence = Evidence(
            unrefined=unrefined,
            noise=found.noise,
            allowed=found.allowed,
            change=None
            if strongest is None or found.anatomy is None
            else ChangeFound(
                strongest.label,
                (strongest.largest or 0.0) if strongest.found else found.anatomy.bound,
                strongest.proposed,
                strongest.allowed or 0.0,
                strongest.scans or 0.0,
                strongest.found,
            ),
            certified=0 if found.anatomy is None else found.anatomy.certified,
            tried=0 if found.anatomy is None else found.anatomy.tried,
            beyond=split.anatomy if split is not None and beyond else None,
            lost=found.lost,
            window=None if found.window.whole else found.window.size,
        )
    conclusion = conclude(measures, evidence)
    if conclusion is None:
        return None, verdict
    return conclusion, replace(verdict, sentences=(conclusion.text, *verdict.sentences))
