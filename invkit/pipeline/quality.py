"""How well a denoiser denoises, on held-out pairs: error cut, and whose noise texture is nearer to full dose."""

__all__ = ["denoising_quality"]

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from invkit.data.patches import PatchSampler
from invkit.errors import InputError
from invkit.metrics.intervals import Interval, resampling_weights
from invkit.metrics.spectrum import spectrum_distance

Json = dict[str, object]


def denoising_quality(
    denoise: Callable[[Tensor], Tensor], sampler: PatchSampler, *, patches: int = 128, seed: int = 0
) -> Json:
    """Return RMSE in HU before and after, the relative cut, and the distance of noise spectra to the full dose's.

    Where the noise-free image is known (phantoms) errors are against it; elsewhere against the full-dose image, whose own noise a
    perfect output would still differ by. The noise of an image is taken as its high-pass part: the image minus its blurred self.
    Intervals are over patients.

    Args:
        denoise: HU in, HU out, `(B, 1, H, W)`.
        sampler: held-out pairs.
        patches: how many.
        seed: of the bootstrap.

    Raises:
        InputError: the low-dose patches have no error to be cut.
    """
    before, after, textures_full, textures_out, patients = [], [], [], [], []
    with torch.no_grad():
        for step in range(max(1, patches // 16)):
            batch = sampler.batch(step, 16)
            out = denoise(batch.x)
            truth = batch.y if batch.clean is None else batch.clean
            before.append((batch.x - truth).flatten(1).square().mean(1))
            after.append((out - truth).flatten(1).square().mean(1))
            textures_full.append(high_pass(batch.y))
            textures_out.append(high_pass(out))
            patients += batch.patient.tolist()
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
            torch.cat(textures_out), torch.cat(textures_full), patients, seed=seed
        ).to_json(),
    }


def high_pass(images: Tensor, size: int = 9) -> Tensor:
    """Return images minus their mean over `size` x `size` pixels: noise and the finest structure."""
    padded = torch.nn.functional.pad(images, (size // 2,) * 4, mode="reflect")
    return images - torch.nn.functional.avg_pool2d(padded, size, stride=1)
