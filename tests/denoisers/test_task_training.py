"""Training a denoiser: that it learns, and resumes bit for bit."""

import copy

import pytest
import torch
from small_tasks import (
    FULL,
    MSE,
    PREPROCESSING,
    SIZE,
    WGAN,
    Few,
    Pairs,
    Squares,
    deep_critic,
    network,
    pair,
    task,
)

from invkit.data.patches import PatchSampler
from invkit.data.slices import load_slices
from invkit.denoisers.spec import Affine
from invkit.denoisers.task import DenoiserTask
from invkit.errors import ConfigError
from invkit.training.engine import FitConfig, fit


def test_mean_squared_error_overfits_two_patches(tmp_path):
    sampler = Few()
    recipe = MSE.changed({"steps": 300, "lr": 0.1, "lr_end": 0.01})
    made = task(recipe, sampler=sampler, held_out=sampler)
    before = made.evaluate(0)["rmse_denoised_hu"]
    result = fit(made, FitConfig(steps=300, evaluate_every=300, checkpoint_every=300), tmp_path)
    assert before > 100
    assert result.metrics["rmse_denoised_hu"] < 0.01 * before
    # y = x / 2 + 100 HU is, in network units, x / 2 + (100 - 500 / 2 + 500) / 400.
    assert made.network.weight[0, 0, 1, 1].item() == pytest.approx(0.5, abs=0.02)
    assert made.network.bias.item() == pytest.approx(0.875, abs=0.05)


def test_a_critic_learns_to_tell_full_dose_from_denoised(tmp_path):
    """With a denoiser that does not move, the estimated distance grows from nothing."""
    recipe = WGAN.changed({"mse_steps": 0, "lr": 1e-12, "adversarial": {"critic": deep_critic, "lr": 1e-2}})
    made = task(recipe)

    def distance() -> float:
        with torch.no_grad():
            pairs = [pair(1000 + step) for step in range(10)]
            return (
                sum((made.critic(y).mean() - made.critic(made.network(x)).mean()).item() for x, y in pairs)
                / 10
            )

    before = abs(distance())
    fit(made, FitConfig(steps=40, evaluate_every=40, checkpoint_every=40), tmp_path)
    assert distance() > max(0.05, 2 * before)


def test_a_wasserstein_training_runs_and_resumes_bit_identically(tmp_path):
    recipe = FULL.changed({"steps": 6, "adversarial": {"critic": deep_critic, "critic_steps": 2}})
    slices = load_slices(["phantoms:4"], size=64)
    config = {"evaluate_every": 3, "checkpoint_every": 2, "log_every": 1}

    def made() -> DenoiserTask:
        sampler = PatchSampler(slices, SIZE, seed=1)
        return DenoiserTask(network(), PREPROCESSING, recipe, sampler, sampler, seed=2, backbone=Squares())

    weights = {"denoiser": "weight", "critic": "0.weight"}
    whole = made()
    start = copy.deepcopy({name: module.state_dict() for name, module in whole.modules.items()})
    result = fit(whole, FitConfig(steps=6, **config), tmp_path / "whole")
    assert result.steps == 6
    assert result.metrics.keys() == {"rmse_low_dose_hu", "rmse_denoised_hu"}

    class Broken(Exception):
        pass

    broken = made()
    loss = broken.loss

    def fail(phase, step, shard):
        if step == 5 and phase == "denoiser":
            raise Broken
        return loss(phase, step, shard)

    broken.loss = fail
    with pytest.raises(Broken):
        fit(broken, FitConfig(steps=6, **config), tmp_path / "parts")
    resumed = made()
    fit(resumed, FitConfig(steps=6, **config), tmp_path / "parts")
    for name, module in whole.modules.items():
        assert not torch.equal(module.state_dict()[weights[name]], start[name][weights[name]])
        for key, tensor in module.state_dict().items():
            assert bool(tensor.isfinite().all())
            assert torch.equal(tensor, resumed.modules[name].state_dict()[key])


def test_a_folder_of_another_training_is_refused(tmp_path):
    config = FitConfig(steps=2, evaluate_every=2, checkpoint_every=1)
    fit(task(MSE), config, tmp_path)
    fit(task(MSE), config, tmp_path)
    others = [
        task(MSE.changed({"lr": 2e-3})),
        task(MSE, sampler=Pairs(9)),
        task(MSE, held_out=Pairs(9)),
        task(MSE, seed=9),
        DenoiserTask(network(), Affine(0.0, 1.0), MSE, Pairs(), Pairs(1), seed=3),
    ]
    for other in others:
        with pytest.raises(ConfigError, match="identity"):
            fit(other, config, tmp_path)
