"""What a layer's file keeps of held-out patches, against direct computations."""

import numpy as np
import pytest
import torch
from torch import nn

from invkit import artifacts
from invkit.calibration.flow import calibrate_flow
from invkit.calibration.keep import record_calibration
from invkit.calibration.record import CalibrationRecord
from invkit.data.patches import PatchSampler
from invkit.data.slices import load_slices
from invkit.denoisers.loaded import wrap_module
from invkit.flow.cinn import CINN
from invkit.flow.config import CinnConfig
from invkit.flow.table import CodeTable
from invkit.flow.train import CinnTask
from invkit.parts.config import LayerConfig
from invkit.parts.layer import LayerRequest, learn_layer, load_layer
from invkit.parts.preset_file import vae_preset
from invkit.parts.store import Store
from invkit.parts.vae import VaeRequest, learn_vae
from invkit.regressor.regress import squared_error
from invkit.split.split import Split
from invkit.training.seeds import derive_seed
from invkit.vae.trained import load_vae

TINY = LayerConfig.preset("tiny")
D = 4
PATIENTS = [row // 8 for row in range(96)]


def table(n, seed):
    random = torch.Generator().manual_seed(seed)
    condition = torch.randn(n, D, generator=random)
    mean = condition + 0.6 * torch.randn(n, D, generator=random)
    return CodeTable(mean, torch.full((n, D), -0.4), condition)


@pytest.fixture(scope="module")
def workshop(place):
    """Where parts are kept, what they are trained on, and the VAE of its low-dose images."""
    store = Store(place["host"], place["cache"])
    slices = load_slices(["phantoms:20"], cache=store.root / "phantoms")
    vae = load_vae(learn_vae(VaeRequest("low", slices, vae_preset("tiny"), TINY.dose, 0), store))
    return store, slices, vae


@pytest.fixture(scope="module")
def cinn():
    flow = CINN(CinnConfig(d=D, blocks=1, hidden=8, context=4), (D,))
    flow.initialise(table(2000, 1))
    return flow


def test_a_record_survives_the_file(cinn, tmp_path):
    held_out = table(96, 2)
    tensors, meta = record_calibration(cinn, held_out, PATIENTS, seed=5)
    artifacts.save(tmp_path / "a.safetensors", tensors, kind="cinn", meta={"calibration": meta})
    stored = artifacts.load(tmp_path / "a.safetensors", kind="cinn")
    read = CalibrationRecord.read(stored.tensors, stored.meta)
    found = calibrate_flow(cinn, held_out, PATIENTS, seed=5)
    curves = found.sbc.uniformity
    places = np.searchsorted(curves.position, read.position - 1e-6)
    assert len(places) >= 20
    for kept, whole in (
        ("difference", curves.difference),
        ("low", curves.family_low),
        ("high", curves.family_high),
    ):
        assert np.allclose(getattr(read, kept), whole[places], atol=1e-3)
    assert np.array_equal(read.departs, curves.departs)
    assert np.bincount(read.kind).tolist() == [D, 32, 1]
    for kind in range(3):
        ranks = found.ranks.ranks[:, read.kind == kind]
        counts, _ = np.histogram(ranks, bins=np.arange(0, 101, 5) - 0.5)
        assert np.array_equal(read.histogram[kind], counts)
    assert np.allclose(read.coverage[1], found.tarp.curve.difference[:, 0], atol=1e-6)
    assert read.summary["tarp"] == found.tarp.to_json()
    assert read.summary["sbc"]["failing"]["code"] == [
        sum(name.startswith("code") for name in found.sbc.failing),
        D,
    ]


def test_reach_is_the_root_mean_square_of_v(cinn):
    held_out = table(96, 2)
    found = calibrate_flow(cinn, held_out, PATIENTS, seed=5)
    again = calibrate_flow(cinn, held_out, PATIENTS, seed=5)
    assert found.reach == again.reach
    # z_bar given the condition has a variance of 0.36 + exp(-0.4), which the closed-form start knows.
    assert found.reach.low < 1 < found.reach.high
    wide = CodeTable(
        held_out.condition + 2 * (held_out.mean - held_out.condition),
        held_out.log_var + 1.386,
        held_out.condition,
    )
    assert calibrate_flow(cinn, wide, PATIENTS, seed=5).reach.value == pytest.approx(2, rel=0.1)


def test_what_cannot_be_tested_says_why(cinn):
    tensors, meta = record_calibration(cinn, table(8, 2), [0] * 8, seed=5)
    assert not tensors
    assert "2 held-out patients" in meta["unmeasured"]
    assert CalibrationRecord.read(tensors, {"calibration": meta}) is None
    assert CalibrationRecord.read({}, {}) is None


def test_a_trained_layer_keeps_its_calibration_and_the_errors_of_its_regression(workshop):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.Conv2d(3, 1, 1))
    store, slices, vae = workshop
    cinn = TINY.cinn.model_copy(update={"d": vae.vae.config.d})
    regressor = TINY.regressor.model_copy(update={"stages": 3, "condition_stages": 1})
    config = TINY.model_copy(update={"cinn": cinn, "regressor": regressor, "regressed": 40})
    request = LayerRequest(Split(wrap_module(network), "0"), vae, slices, config)
    model = learn_layer(request, store)
    record = CalibrationRecord.read(model.held_out, model.meta)
    assert record is not None
    assert record.summary["patches"] == config.held_out
    assert record.summary["patients"] == len(set(model.patients.tolist()))
    learning = model.meta["learning"]
    assert [step for step, _ in learning["nll"]] == [0, 30, 60]
    best = min(learning["nll"], key=lambda look: look[1])
    assert model.meta["best_step"] == best[0]
    assert [stage for stage, _ in learning["rmse_hu"]] == list(range(len(learning["rmse_hu"])))
    assert [stage for stage, _ in learning["code_nll"]] == [0, 1, 2]
    assert min(value for _, value in learning["rmse_hu"]) == model.meta["regressor_rmse_hu"]

    seed = derive_seed(0, "layer", "test")
    pairs = PatchSampler(slices.part("test"), regressor.patch, dose=config.dose, seed=seed).batch(0, 32)
    z, size = model.split.phi(pairs.x), pairs.x.shape[-2:]
    # The condition knows the first stage alone, and the errors are of all of them.
    assert len(model.regressor.stages) >= 2
    assert torch.equal(model.estimate(z, size), model.regressor(z, size, phi=model.split.phi, stages=1))
    estimate = model.regressor(z, size, phi=model.split.phi)
    errors = model.held_out["regressed_rows"]
    assert errors.shape == (40,)
    assert torch.allclose(errors[:32], (estimate - pairs.x).square().mean((1, 2, 3)), rtol=1e-4)
    assert torch.allclose(errors[:32], squared_error(estimate, pairs.x), rtol=1e-4)

    path = store.path("cinn", store.key(request.describe()))
    stored = artifacts.load(path, kind="cinn")
    before = {name: value for name, value in stored.tensors.items() if name not in model.held_out}
    meta = {name: value for name, value in stored.meta.items() if name not in ("calibration", "learning")}
    artifacts.save(path, before, kind="cinn", meta=meta)
    old = load_layer(path, request)
    assert not old.held_out
    assert CalibrationRecord.read(old.held_out, old.meta) is None


@pytest.mark.parametrize(("layer", "rows", "steps"), [("input", 48, 20), ("const", 128, 60)])
def test_where_z_tells_the_code_less_is_trained(workshop, monkeypatch, layer, rows, steps):
    """From `input` the code is known exactly; of `const` everything is left to learn."""
    seen = []

    class Task(CinnTask):
        def __init__(self, cinn, train, held_out, **others):
            seen.append((len(train), len(held_out)))
            super().__init__(cinn, train, held_out, **others)

    monkeypatch.setattr("invkit.parts.layer.CinnTask", Task)
    store, slices, vae = workshop
    cinn = TINY.cinn.model_copy(update={"d": vae.vae.config.d, "evaluate_every": 10, "patience": None})
    changes = {"cinn": cinn, "fewer_rows": 48, "fewer_steps": 20, "validation": 40}
    request = LayerRequest(
        Split(wrap_module(nn.Conv2d(1, 1, 1)), layer), vae, slices, TINY.model_copy(update=changes)
    )
    model = learn_layer(request, store)
    assert seen == [(rows, 40)]
    assert model.meta["learning"]["nll"][-1][0] == steps
    assert len(model.nll_rows) == TINY.held_out
