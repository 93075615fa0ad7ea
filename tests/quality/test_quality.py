"""How well a denoiser denoises, where the answer is known."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from invkit.data.patches import PatchBatch
from invkit.errors import InputError
from invkit.images.flat import flat_regions, noise_in
from invkit.images.spectrum import spectrum_distance
from invkit.quality.quality import denoising_quality
from invkit.training.seeds import generator

SIZE = 32


class Pairs:
    """White noise on smooth images, the same at every call; eight patients, of which each has its own noise."""

    def __init__(self, clean: bool = True, patients: int = 8, noise: float = 30.0, spread: float = 0.0):
        self.clean, self.patients, self.noise, self.spread = clean, patients, noise, spread
        self.size, self.dose, self.slices = SIZE, 0.25, SimpleNamespace(fingerprint="pairs")
        self.steps: list[int] = []

    def batch(self, step: int, n: int, shard: slice | None = None) -> PatchBatch:
        self.steps.append(step)
        random = generator(0, "pairs", step)
        patient = torch.arange(n) % self.patients
        level = (self.noise * (1 + self.spread * patient)).view(-1, 1, 1, 1)
        clean = torch.linspace(-100, 100, SIZE).expand(n, 1, SIZE, SIZE).clone()
        clean += 5 * torch.randn(clean.shape, generator=random)
        y = clean + 10 * torch.randn(clean.shape, generator=random)
        x = y + level * torch.randn(clean.shape, generator=random)
        return PatchBatch(x, y, clean if self.clean else None, level.flatten(), patient)


def everything(sampler: Pairs, batches: int) -> PatchBatch:
    parts = [sampler.batch(step, 16) for step in range(batches)]
    clean = torch.cat([part.clean for part in parts]) if sampler.clean else None
    return PatchBatch(
        torch.cat([part.x for part in parts]),
        torch.cat([part.y for part in parts]),
        clean,
        torch.cat([part.noise for part in parts]),
        torch.cat([part.patient for part in parts]),
    )


def test_doing_nothing_cuts_nothing():
    sampler = Pairs()
    quality = denoising_quality(lambda x: x, sampler, patches=48)
    batch = everything(Pairs(), 3)
    low = math.sqrt((batch.x - batch.clean).double().square().mean().item())
    assert quality["rmse_cut"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert quality["rmse_low_dose_hu"] == quality["rmse_denoised_hu"] == pytest.approx(low, rel=1e-6)
    assert low == pytest.approx(math.hypot(10, 30), rel=0.02)
    assert sampler.steps == [0, 1, 2]


def oracle(sampler: Pairs):
    """Return a function that knows the clean image of each batch that is asked for in turn."""
    steps = iter(range(1000))
    return lambda x: sampler.batch(next(steps), len(x)).clean


def test_knowing_the_truth_cuts_everything():
    quality = denoising_quality(oracle(Pairs()), Pairs(), patches=32)
    assert quality["rmse_denoised_hu"] == 0.0
    assert quality["rmse_cut"] == {"value": 1.0, "low": 1.0, "high": 1.0}


def test_full_dose_as_output_has_its_own_texture():
    steps = iter(range(10))
    quality = denoising_quality(lambda x: Pairs().batch(next(steps), len(x)).y, Pairs(), patches=32)
    assert quality["nps_distance_db"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert quality["rmse_denoised_hu"] == pytest.approx(10, rel=0.02)


def test_without_a_noise_free_image_full_dose_is_the_truth():
    batch = everything(Pairs(clean=False), 2)
    quality = denoising_quality(lambda x: 0.5 * x, Pairs(clean=False), patches=32)
    before = math.sqrt((batch.x - batch.y).double().square().mean().item())
    after = math.sqrt((0.5 * batch.x - batch.y).double().square().mean().item())
    assert quality["rmse_low_dose_hu"] == pytest.approx(before, rel=1e-6)
    assert quality["rmse_denoised_hu"] == pytest.approx(after, rel=1e-6)
    assert quality["rmse_cut"]["value"] == pytest.approx(1 - after / before, rel=1e-6)


def test_the_distance_is_that_of_the_noise_in_flat_regions():
    batch = everything(Pairs(), 2)
    regions = flat_regions(batch.y)
    out, full = (noise_in(images, regions) for images in (0.5 * batch.x, batch.y))
    patients = batch.patient[list(regions.image)].tolist()
    expected = spectrum_distance(out, full, patients, seed=3)
    quality = denoising_quality(lambda x: 0.5 * x, Pairs(), patches=32, seed=3)
    assert quality["nps_regions"] == len(regions) > 16
    assert quality["nps_distance_db"] == pytest.approx(expected.to_json())


def test_without_flat_tissue_there_is_no_spectrum():
    class Air(Pairs):
        def batch(self, step: int, n: int, shard: slice | None = None) -> PatchBatch:
            batch = super().batch(step, n)
            return PatchBatch(batch.x - 900, batch.y - 900, None, batch.noise, batch.patient)

    quality = denoising_quality(lambda x: 0.5 * x, Air(), patches=16)
    assert quality["nps_distance_db"] is None
    assert quality["nps_regions"] == 0


def test_intervals_are_over_patients():
    """Where patients differ, patches of one patient are no independent witnesses: the interval is wider."""
    settings = {"patients": 4, "spread": 2.0}
    quality = denoising_quality(lambda x: 0.7 * x, Pairs(**settings), patches=160)["rmse_cut"]
    batch = everything(Pairs(**settings), 10)
    before = (batch.x - batch.clean).double().square().flatten(1).mean(1).numpy()
    after = (0.7 * batch.x - batch.clean).double().square().flatten(1).mean(1).numpy()
    rng = np.random.default_rng(0)
    members = [np.flatnonzero(batch.patient.numpy() == patient) for patient in range(4)]
    cuts = []
    for _ in range(2000):
        rows = np.concatenate([members[patient] for patient in rng.integers(4, size=4)])
        cuts.append(1 - math.sqrt(after[rows].mean() / before[rows].mean()))
    low, high = np.quantile(cuts, [0.025, 0.975])
    assert quality["low"] == pytest.approx(low, abs=0.1 * (high - low))
    assert quality["high"] == pytest.approx(high, abs=0.1 * (high - low))
    assert quality["low"] < quality["value"] < quality["high"]


def test_one_patient_has_no_interval():
    quality = denoising_quality(lambda x: 0.5 * x, Pairs(patients=1), patches=16)
    assert isinstance(quality["rmse_cut"], float)
    assert isinstance(quality["nps_distance_db"], float)


def test_the_same_seed_gives_the_same_figures():
    first, second = (
        denoising_quality(lambda x: 0.8 * x, Pairs(spread=1.0), patches=32, seed=4) for _ in "ab"
    )
    assert first == second


def test_nothing_to_cut_is_an_error():
    class Equal(Pairs):
        def batch(self, step: int, n: int, shard: slice | None = None) -> PatchBatch:
            same = super().batch(step, n)
            return PatchBatch(same.y, same.y, None, same.noise, same.patient)

    with pytest.raises(InputError, match="no error to be cut"):
        denoising_quality(lambda x: x, Equal(), patches=16)
