"""What varies in the certified samples of a layer, and what cannot be made to vary: E11 to E15 at a bounded cost."""

__all__ = ["Variation", "Window", "choose_window", "measure_variation"]

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.nn import functional

from invkit.data.dose import estimate_noise
from invkit.data.noise import noise_texture
from invkit.denoisers.loaded import LoadedDenoiser
from invkit.errors import InputError, SplitError
from invkit.metrics.anatomy import NoiseSplit, split_noise_anatomy
from invkit.metrics.diversity import Diversity, diversity
from invkit.metrics.faithfulness import activation_scale
from invkit.metrics.gain import GainRatios, gain_ratios
from invkit.metrics.intervals import Interval
from invkit.metrics.lesion import LesionCurve, lesion_curve
from invkit.metrics.transfer import ScaledLayer, transfer
from invkit.pipeline.anatomy import RADII, Anatomy, proposals, summarise
from invkit.pipeline.certify import Certified
from invkit.pipeline.region import Region
from invkit.sampling.anatomy_proposals import Survival, survive
from invkit.sampling.disc import SOFT_TISSUE
from invkit.sampling.model import SampleModel
from invkit.split.split import Split
from invkit.training.seeds import derive_seed, generator

SIDE = 128  # pixels: of larger images a window is measured
IMAGES = 4  # that the costly measures are taken on
SCANS = 64  # differences of two noise realisations
DIRECTIONS = 4  # of each kind, for the Jacobian
STRANGERS = 8
DISCS = 4  # places for each size
HALVINGS = 2
STRICT = 0.1  # of epsilon: a local change is diluted by the mean over all elements of the activation


@dataclass(frozen=True)
class Window:
    """The part of an image that is measured; the layer sees it as an image of its own.

    Args:
        rows: of the image.
        columns: of the image.
        whole: whether it is all of the image.
    """

    rows: slice
    columns: slice
    whole: bool

    def crop(self, images: Tensor) -> Tensor:
        """Return it of images `(..., H, W)`."""
        return images[..., self.rows, self.columns]

    def to_json(self) -> dict[str, Any]:
        """Return place and size in pixels."""
        return {
            "row": self.rows.start,
            "column": self.columns.start,
            "height": self.rows.stop - self.rows.start,
            "width": self.columns.stop - self.columns.start,
            "whole": self.whole,
        }


@dataclass(frozen=True)
class Variation:
    """What was measured; `None` for what could not be.

    Args:
        window: of the first image.
        images: how many of the images were measured.
        diversity: of the certified samples (E11).
        gain: of the layer along their differences from x (E12).
        split: of these differences into noise and anatomy (E13).
        noise: noise that is proven to be invisible to the layer, HU: the larger of what the certified samples and those
            of the training-free sampler show.
        allowed: what epsilon alone would allow of it, HU.
        anatomy: what is left of changes of anatomy.
        lesions: contrast of the disc that the layer sees, with `epsilon` and `eta` as the threshold (E14).
        transfer: the certified samples under another denoiser (E15).
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

    def to_json(self) -> dict[str, Any]:
        """Return JSON values, without what could not be measured."""
        found: dict[str, Any] = {
            "window": self.window.to_json(),
            "images": self.images,
            "noise_hu": None if self.noise is None else self.noise.to_json(),
            "noise_epsilon_hu": self.allowed,
        }
        for name in ("diversity", "gain", "split", "anatomy"):
            value = getattr(self, name)
            if value is not None:
                found[name] = value.to_json()
        if self.lesions:
            found["lesion"] = {name: curve.to_json() for name, curve in self.lesions.items()}
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


def measure_variation(
    model: SampleModel,
    x: Tensor,
    certified: Sequence[Certified],
    free: Sequence[Certified],
    strangers: Tensor,
    *,
    epsilon: float,
    input_scale: float,
    seed: int,
    region: Region | None = None,
    beside: LoadedDenoiser | None = None,
) -> Variation:
    """Measure what varies and what does not, on the first four images and on a window of large ones.

    Args:
        model: the layer's.
        x: the images, `(B, 1, H, W)`, HU.
        certified: for each image its refined draws.
        free: for each image those of the training-free sampler; may be empty.
        strangers: other images of the same dose and size, `(n, 1, H, W)`, HU.
        epsilon: of the certificates, in units of s_Phi.
        input_scale: s_Phi of the `input` control, HU.
        seed: of the analysis.
        region: that the window is laid around.
        beside: another denoiser, for the transfer.

    Raises:
        SplitError: no gradient of the layer reaches the image.
    """
    count = min(len(x), IMAGES)
    split, scale, eta = model.split, model.meta["scale"], model.meta["eta"]
    windows = [choose_window(one[None], region) for one in x[:count]]
    seen = [window.crop(one[None]) for window, one in zip(windows, x, strict=False)]
    others = windows[0].crop(strangers[:STRANGERS])

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
        survivals.append(survive(split.phi, split.phi_grad, part, changes, STRICT * epsilon * scale))
    return Variation(
        window=windows[0],
        images=count,
        diversity=diversity(moved, seed=seed) if enough else None,
        gain=_gain(split, seen, moved, scans, seed) if enough and noisy else None,
        split=split_of,
        noise=max(known, key=lambda one: one.value, default=None),
        allowed=epsilon * input_scale,
        anatomy=summarise(
            survivals,
            scans,
            epsilon=STRICT * epsilon,
            tolerance=STRICT * epsilon * input_scale,
            seed=seed,
        ),
        lesions=_lesions(split, seen, {"epsilon": epsilon * scale, "eta": eta * scale}, seed),
        transfer=None
        if beside is None or not enough
        else _transfer(model, seen, moved, others, beside, seed),
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
        return None


def _lesions(
    split: Split, seen: Sequence[Tensor], thresholds: dict[str, float], seed: int
) -> dict[str, LesionCurve]:
    curves = {}
    for name, threshold in thresholds.items():
        try:
            curves[name] = lesion_curve(
                split.phi,
                seen,
                [threshold] * len(seen),
                RADII,
                places=DISCS,
                halvings=HALVINGS,
                seed=seed,
            )
        except InputError:
            # There is no soft tissue for a disc, so nothing is said.
            continue
    return curves


def _transfer(
    model: SampleModel,
    seen: Sequence[Tensor],
    moved: Sequence[Tensor],
    strangers: Tensor,
    beside: LoadedDenoiser,
    seed: int,
) -> dict[str, Any] | None:
    """Return how another denoiser's output answers to the certified samples, beside other images (E15)."""
    try:
        other = Split(beside, "output")
    except SplitError:
        return None
    scale = activation_scale(other.phi, strangers, 2 * len(strangers), seed=seed)
    if not scale > 0:
        return None
    found = transfer(
        {"own": ScaledLayer(model.split.phi, model.meta["scale"]), "other": ScaledLayer(other.phi, scale)},
        seen,
        {"own": [part + difference for part, difference in zip(seen, moved, strict=True)]},
        strangers=strangers,
        seed=seed,
    )
    return {
        "denoiser": beside.name,
        "layer": "output",
        "error_own": found.error["own"]["own"].to_json(),
        "error": found.error["own"]["other"].to_json(),
        "error_random": found.random["other"].to_json(),
    }
