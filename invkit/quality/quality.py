"""How well a denoiser denoises, on held-out pairs: error cut, and whose noise texture is nearer to full dose."""

__all__ = ["denoising_quality"]

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from invkit.data.patches import PatchSampler
from invkit.errors import InputError
from invkit.images.flat import flat_regions, noise_in
from invkit.images.spectrum import spectrum_distance
from invkit.statistics.intervals import Interval, resampling_weights

Json = dict[str, object]


def denoising_quality(
    denoise: Callable[[Tensor], Tensor], sampler: PatchSampler, *, patches: int = 128, seed: int = 0
) -> Json:
    """Return RMSE in HU before and after, the relative cut, and the distance of noise spectra to the full dose's.

    Where the noise-free image is known (phantoms) errors are against it; elsewhere against the full-dose image,
    whose own noise a perfect output would still differ by. The noise power spectra are of flat regions of soft
    tissue, found in the full-dose image; their distance is `None` where there are none. Intervals are over
    patients.

    Args:
        denoise: HU in, HU out, `(B, 1, H, W)`.
        sampler: held-out pairs.
        patches: how many.
        seed: of the bootstrap.

    Raises:
        InputError: the low-dose patches have no error to be cut.
    """
    before, after, patients = [], [], []
    noises: tuple[list[Tensor], list[Tensor], list[int]] = ([], [], [])
    with torch.no_grad():
        for step in range(max(1, patches // 16)):
            batch = sampler.batch(step, 16)
            out = denoise(batch.x)
            truth = batch.y if batch.clean is None else batch.clean
            before.append((batch.x - truth).flatten(1).square().mean(1))
            after.append((out - truth).flatten(1).square().mean(1))
            patients += batch.patient.tolist()
            if len(regions := flat_regions(batch.y)):
                noises[0].append(noise_in(out, regions))
                noises[1].append(noise_in(batch.y, regions))
                noises[2].extend(batch.patient[list(regions.image)].tolist())
    low, denoised = torch.cat(before).double().numpy(), torch.cat(after).double().numpy()
    if not low.any():
        raise InputError("the low-dose patches equal their reference, so there is no error to be cut")
    weights = resampling_weights(len(low), patients, seed=seed, draws=1000)
    cut = 1 - float(np.sqrt(denoised.mean() / low.mean()))
    bounds = (math.nan, math.nan)
    if weights is not None:
        resampled = np.quantile(1 - np.sqrt((weights @ denoised) / (weights @ low)), [0.025, 0.975])
        bounds = (float(resampled[0]), float(resampled[1]))
    return {
        "rmse_low_dose_hu": float(np.sqrt(low.mean())),
        "rmse_denoised_hu": float(np.sqrt(denoised.mean())),
        "rmse_cut": Interval(cut, *bounds).to_json(),
        "nps_distance_db": spectrum_distance(
            torch.cat(noises[0]), torch.cat(noises[1]), noises[2], seed=seed
        ).to_json()
        if noises[0]
        else None,
        "nps_regions": len(noises[2]),
    }
