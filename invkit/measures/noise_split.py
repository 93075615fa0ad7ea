"""How much of the differences of samples dose noise can explain, and how much must be anatomy."""

__all__ = ["NoiseSplit", "split_noise_anatomy"]

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from invkit.errors import InputError
from invkit.images.bands import band_counts, radial_bands
from invkit.statistics.intervals import Interval
from invkit.statistics.resampling import image_intervals

Array = NDArray[np.float64]


@dataclass(frozen=True)
class NoiseSplit:
    """Differences between images, split into what noise at this dose explains and the rest.

    Args:
        total: root mean square difference, HU.
        noise: what noise of the dose explains of it, HU; noise^2 + anatomy^2 = total^2.
        anatomy: the rest, HU: no less than this is not noise of that spectrum and level.
        share: of anatomy in the mean square, 0 to 1.
        floor: the share that the same number of differences of nothing but noise gets by chance, with 95 % of its draws.
        frequency: centres of the bands, cycles per pixel; the first, 0, is the mean over the image.
        difference_power: mean square of the differences in each band, HU^2; they add up to total^2.
        noise_power: mean square of the noise in each band, HU^2.
        anatomy_power: what exceeds it, HU^2, image by image, and averaged.
    """

    total: Interval
    noise: Interval
    anatomy: Interval
    share: Interval
    floor: Interval
    frequency: tuple[float, ...]
    difference_power: tuple[float, ...]
    noise_power: tuple[float, ...]
    anatomy_power: tuple[float, ...]

    @property
    def found(self) -> bool:
        """Whether anatomy was found: the share exceeds that of noise alone, beyond both intervals."""
        return self.share.above(self.floor)

    def figures(self) -> dict[str, Any]:
        """Return the figures by their keys; powers in HU^2."""
        intervals = {name: getattr(self, name) for name in ("total", "noise", "anatomy", "share", "floor")}
        bands = {
            name: list(getattr(self, name))
            for name in ("frequency", "difference_power", "noise_power", "anatomy_power")
        }
        return {**intervals, **bands, "found": self.found}


def split_noise_anatomy(
    differences: Sequence[Tensor],
    noise: Sequence[Tensor],
    groups: Sequence[Any] | None = None,
    *,
    bands: int = 10,
    seed: int = 0,
    draws: int = 1000,
) -> NoiseSplit:
    """Split the power of differences by what differences of two noise realisations of the same anatomy have.

    For image b and radial band k let D_b(k) be the mean power of its differences and N_b(k) that of noise differences
    n1 - n2 at its dose: twice the noise power spectrum. What noise explains is min(D, N), what exceeds it is anatomy:

        anatomy^2 = mean over b of sum over k of w(k) max(0, D_b(k) - N_b(k)),    noise^2 = total^2 - anatomy^2

    with w(k) such that the sum of w(k) D(k) is the mean square difference (Parseval). A layer may ignore the noise of some
    bands only, so every band has its own level, up to N. If a difference is noise of at most that power plus something
    uncorrelated, the something has at least the power `anatomy`: a lower bound. Structure that is weaker than the noise in
    every band it has power in is not found; smaller patches find more of what is small. The spectrum knows nothing of
    shape: noise that is stronger than the dose's, or coloured otherwise, counts as anatomy where it exceeds N.

    Because max(0, .) of an estimate is positive by chance, `floor` is what differences of nothing but noise get, drawn from
    `noise` in the numbers of the samples and compared with the others.

    Args:
        differences: for each image x* - x of its certified samples, `(n, 1, H, W)`, HU.
        noise: for each image differences of noise realisations, `(m, 1, H, W)`, HU; m several times n.
        groups: labels of the images (patients).
        bands: radial bands up to 0.5 cycles per pixel.
        seed: of all resampling.
        draws: bootstrap samples.

    Raises:
        InputError: numbers or sizes that do not match, fewer than two noise differences, or differences that are 0.
        ImageError: another shape, or images too small for so many bands.
    """
    if len(differences) != len(noise) or not differences:
        raise InputError(
            f"every image needs its differences and its noise, got {len(differences)} and {len(noise)} images"
        )
    if any(len(one) < 1 or len(other) < 2 for one, other in zip(differences, noise, strict=True)):
        raise InputError("every image needs at least one difference and two noise differences")
    if len({images.shape[1:] for images in (*differences, *noise)}) != 1:
        raise InputError("all differences and noise must be of one size, (n, 1, H, W)")
    powers = [
        (_power(one, bands), _power(other, bands)) for one, other in zip(differences, noise, strict=True)
    ]
    total, by_noise, anatomy, share = image_intervals(
        powers, _summary, _figures, groups, seed=seed, draws=draws
    )
    means = [np.mean([rows.mean(axis=0) for rows in column], axis=0) for column in zip(*powers, strict=True)]
    exceeding = np.mean([_excess(*pair) for pair in powers], axis=0)
    return NoiseSplit(
        total=total,
        noise=by_noise,
        anatomy=anatomy,
        share=share,
        floor=_floor(powers, seed, draws),
        frequency=(0.0, *((band + 0.5) / (2 * bands) for band in range(bands))),
        difference_power=tuple(means[0].tolist()),
        noise_power=tuple(means[1].tolist()),
        anatomy_power=tuple(exceeding.tolist()),
    )


def _power(images: Tensor, bands: int) -> Array:
    """Return the mean square of each image by band, `(n, 1 + bands)`, HU^2; the first is that of its mean."""
    height, width = images.shape[-2:]
    counts = band_counts(height, width, bands).numpy() / (height * width)
    of_bands = radial_bands(images.detach(), bands).cpu().numpy().astype(np.float64) * counts
    constant = images.detach().cpu().double().mean(dim=(1, 2, 3)).square().numpy()
    return np.asarray(np.concatenate([constant[:, None], of_bands], axis=1))


def _excess(differences: Array, noise: Array) -> Array:
    return np.asarray(np.maximum(differences.mean(axis=0) - noise.mean(axis=0), 0.0))


def _summary(arrays: Sequence[Array]) -> Array:
    return np.array([arrays[0].mean(axis=0).sum(), _excess(arrays[0], arrays[1]).sum()])


def _figures(means: Array) -> Array:
    total, anatomy = means[..., 0], means[..., 1]
    with np.errstate(invalid="ignore", divide="ignore"):
        share = anatomy / total
    return np.stack([total**0.5, np.maximum(total - anatomy, 0) ** 0.5, anatomy**0.5, share], axis=-1)


def _floor(powers: Sequence[tuple[Array, Array]], seed: int, draws: int) -> Interval:
    """Return the share of anatomy in as many noise differences as there are samples, over random choices of them."""
    rng = np.random.default_rng(seed)
    shares = []
    for _ in range(draws):
        summaries = []
        for samples, noise in powers:
            order = rng.permutation(len(noise))
            chosen = min(len(samples), len(noise) // 2)
            summaries.append(_summary((noise[order[:chosen]], noise[order[chosen:]])))
        shares.append(float(_figures(np.mean(summaries, axis=0))[3]))
    low, high = np.quantile(shares, [0.025, 0.975])
    return Interval(float(np.mean(shares)), float(low), float(high))
