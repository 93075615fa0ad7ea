"""Curves over depth from what layers' files keep, and what a result says of calibration."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from invkit.analysis.measure import with_calibration
from invkit.analysis.outcome import LayerResult
from invkit.measures.curves import layer_curves
from invkit.verdict.rules import Verdict

PATIENTS = torch.arange(20).repeat_interleave(4)
NETWORK = nn.Sequential(nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, 1))


def model(layer, nll, error, *, gained=0.0, stopped=False, rows=80):
    """Return what stands for a layer's model; `gained` is what the second half of its trainings took off, of 1."""
    own = 0.02 * torch.randn(rows, generator=torch.Generator().manual_seed(ord(layer[0])))
    own = own - own.mean()
    learning = {
        "nll": [[50, nll + 0.8 * gained], [100, nll]],
        "code_nll": [[200, nll + 0.4 * gained], [400, nll]],
        "rmse_hu": [[200, error * (1 + gained)], [400, error]],
    }
    denoiser = SimpleNamespace(network=NETWORK, name="net")
    return SimpleNamespace(
        split=SimpleNamespace(layer=layer, layers=(SimpleNamespace(module=layer),), denoiser=denoiser),
        nll_rows=nll + own,
        floor_rows=torch.full((rows,), -1.0),
        patients=PATIENTS[:rows],
        held_out={"regressed_rows": error**2 * (1 + own)},
        meta={"stopped_early": stopped, "learning": learning, "floor": -1.0},
    )


CONTROLS = SimpleNamespace(const=model("const", 0.2, 400.0))


def test_curves_are_in_the_order_of_the_network():
    retained, regression = layer_curves([model("2", -0.4, 30.0), model("0", -0.9, 5.0)], CONTROLS)
    assert retained.layers == regression.layers == ("0", "2")
    assert [one.value for one in retained.retained] == pytest.approx([1.1 / 1.2, 0.6 / 1.2], abs=1e-3)
    assert [one.value for one in regression.rmse] == pytest.approx([5.0, 30.0], rel=0.01)
    assert regression.const.value == pytest.approx(400, rel=0.01)
    assert retained.trusted is True and regression.trusted is True


def test_a_layer_that_cannot_know_more_is_named_in_both():
    layers = [model("0", -0.4, 30.0), model("1", -0.9, 5.0)]
    retained, regression = layer_curves(layers, CONTROLS)
    assert [(rise.shallow, rise.deep) for rise in retained.rises] == [("0", "1")]
    assert regression.falls[0].difference.value == pytest.approx(25.0, rel=0.01)
    for curve in layer_curves(layers, CONTROLS, bypassed=["0"]):
        assert curve.trusted is True


def test_trainings_that_had_not_converged_are_named():
    layers = [model("0", -0.9, 10.0, gained=0.06), model("1", -0.4, 30.0, gained=0.0015)]
    retained, regression = layer_curves(layers, CONTROLS)
    assert [one.converged for one in retained.convergence] == [False, True]
    assert retained.convergence[0].gain == pytest.approx(0.06)
    assert [one.converged for one in regression.convergence] == [False, True]
    assert regression.convergence[0].gain == pytest.approx(0.6)  # of 10 HU, 6 %
    near = layer_curves([model("0", -0.9, 0.4, gained=1.0)], CONTROLS)[1]
    assert (
        near.trusted is True
    )  # 0.4 HU are within every certificate's tolerance, whatever share of the error they are
    assert retained.trusted is False and "layer" not in regression.reasons[0][:5]
    stopped = layer_curves([model("0", -0.9, 5.0, gained=0.06, stopped=True)], CONTROLS)[0]
    # The flow's training had ended, not the regression's.
    assert stopped.convergence[0].gain == pytest.approx(0.02)
    assert stopped.trusted is False


def test_files_of_before_have_no_regression_and_no_known_convergence():
    old = model("0", -0.9, 5.0)
    old.held_out, old.meta = {}, {"stopped_early": False, "floor": -1.0}
    retained, regression = layer_curves([old], CONTROLS)
    assert regression is None
    assert retained.trusted is False and "Nothing says" in retained.reasons[0]
    assert layer_curves([], CONTROLS) == (None, None)
    assert layer_curves([model("0", -0.9, 5.0, rows=40)], CONTROLS)[0] is None


def result(layer):
    verdict = Verdict(("Samples vary.",), ("A warning.",), False)
    return LayerResult(layer, "", (), torch.zeros(1), {"spread_hu": 1.0}, verdict, "found", {}, "", {})


def test_what_was_not_measured_is_said():
    said = with_calibration(result("0"), model("0", -0.9, 5.0))
    assert said.metrics == {"spread_hu": 1.0, "calibration": None}
    assert said.verdict.samples[-1] == (
        "The calibration of the flow for layer 0 of net was not measured when it was trained."
    )
    assert said.verdict.warnings == ("A warning.",)
    assert said.calibration is None


@pytest.mark.parametrize("accuracy", [0.55, 0.9])
def test_a_misfit_is_a_sentence_or_a_warning(accuracy):
    interval = {"value": accuracy, "low": accuracy - 0.01, "high": accuracy + 0.01}
    holds = {"holds": True, "accuracy": {"value": 0.5, "low": 0.48, "high": 0.52}}
    one = model("0", -0.9, 5.0)
    one.held_out |= {
        f"calibration.{name}": torch.zeros(2, 1) for name in ("difference", "low", "high", "departs")
    } | {"calibration.position": torch.tensor([0.3, 0.6]), "calibration.coverage": torch.zeros(4, 2)}
    one.held_out |= {"calibration.kind": torch.zeros(1), "calibration.histogram": torch.zeros(3, 20)}
    one.meta["calibration"] = {
        "holds": False,
        "failing": ["c2st"],
        "level": 0.95,
        "patches": 80,
        "patients": 20,
        "reach": {"value": 1.2, "low": 1.1, "high": 1.3},
        "sbc": {"holds": True, "share_outside": 0.0},
        "tarp": {"holds": True, "area": {"value": 0.0, "low": -0.1, "high": 0.1}},
        "c2st": {"holds": False, "accuracy": interval},
        "c2st_given_z": holds,
    }
    said = with_calibration(result("0"), one)
    matters = accuracy > 0.6
    assert said.metrics["calibration"]["matters"] is matters
    assert len(said.verdict.warnings) == 1 + matters
    assert len(said.verdict.samples) == int(not matters)
    assert any("too narrow" in text for text in said.verdict.warnings) is matters
