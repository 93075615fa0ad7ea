"""Each check holds for its oracle, and does not hold where the oracle is broken."""

import math
import signal
from dataclasses import replace

import pytest
import torch
from torch import nn

from invkit.denoisers.loaded import wrap_module
from invkit.denoisers.oracles.linear import LowPass
from invkit.denoisers.oracles.oracle import BAND, LEVELS, REGION, STEP, TAU, TAU_DISC
from invkit.denoisers.oracles.planted import BlindBand, BlindDisc, BlindRegion, Injective, Planted
from invkit.denoisers.oracles.pointwise import Quantiser, SoftThreshold
from invkit.errors import UnknownNameError
from invkit.flow.cinn import CINN
from invkit.flow.config import CinnConfig
from invkit.flow.coupling import Coupling
from invkit.split.split import Split
from invkit.training.processes.interrupt import Interrupted
from invkit.validate import check as module
from invkit.validate.check import CHECKS, Check, validate
from invkit.validate.exact import check_injective, check_quantiser
from invkit.validate.flow import check_flow
from invkit.validate.gaussian import kept_by_blocks, kept_by_lowpass
from invkit.validate.linear import check_linear
from invkit.validate.maps import check_band, check_region
from invkit.validate.mixture import check_mixture
from invkit.validate.planted import check_disc, check_sign
from invkit.validate.rows import Row, Seeds
from invkit.validate.threshold import check_threshold
from invkit.validate.training import Case

ASKED = (
    "linear-lowpass.nll",
    "linear-lowpass.angles",
    "linear-lowpass.sbc",
    "linear-lowpass.tarp",
    "projection.nll",
    "soft-threshold.killed",
    "soft-threshold.kept",
    "quantiser",
    "injective",
    "planted-band",
    "planted-region",
    "planted-disc",
    "planted-sign",
    "flow.inverse",
    "flow.logdet",
)
QUICK = (
    "soft-threshold",
    "quantiser",
    "injective",
    "planted-band",
    "planted-region",
    "planted-disc",
    "planted-sign",
)
TINY = CinnConfig(d=16, blocks=2, hidden=12, context=4, embedder_hidden=16)
SMALL = Case(
    size=8,
    rows=8192,
    held_out=512,
    draws=128,
    subspace=16384,
    config=CinnConfig(d=64, blocks=2, hidden=32, context=8, embedder_hidden=32, steps=20, evaluate_every=10),
)


def verdicts(rows):
    return {row.id: row.holds for row in rows}


def at(network, layer):
    return Split(wrap_module(network), layer)


@pytest.mark.parametrize("name", QUICK)
def test_an_oracle_keeps_its_bounds_at_full_size(name):
    found = validate([name], seed=3)
    assert tuple(row.id for row in found.rows) == CHECKS[name].rows
    assert found.failed == (), found.rows


BROKEN = {
    # name: (check, network that is not what the truth says, layer, rows that then fail)
    "no band": (check_band, Injective, "blocks", {"planted-band", "planted-band.found"}),
    "another band": (
        check_band,
        lambda: Planted(BlindBand(BAND[1] + 0.02, BAND[1] + 0.1)),
        "net",
        {"planted-band", "planted-band.found"},
    ),
    "half the band": (
        check_band,
        lambda: Planted(BlindBand(BAND[0], sum(BAND) / 2)),
        "net",
        {"planted-band.found"},
    ),
    "no region": (check_region, Injective, "blocks", {"planted-region", "planted-region.found"}),
    "a larger region": (
        check_region,
        lambda: Planted(BlindRegion(0, REGION[1], REGION[2], REGION[3])),
        "net",
        {"planted-region", "planted-region.found"},
    ),
    "no disc": (
        check_disc,
        Injective,
        "blocks",
        {"planted-disc", "planted-disc.contrast", "planted-disc.found"},
    ),
    "half the contrast": (
        check_disc,
        lambda: Planted(BlindDisc(TAU_DISC / 2)),
        "net",
        {"planted-disc.contrast"},
    ),
    "blind to all discs": (
        check_disc,
        lambda: LowPass(0.02),
        "filter",
        {"planted-disc.seen", "planted-disc.contrast"},
    ),
    "the sign is seen": (check_sign, Injective, "blocks", {"planted-sign", "planted-sign.found"}),
    "not injective": (check_injective, lambda: Planted(BlindRegion(*REGION)), "net", {"injective"}),
    "finer steps": (check_quantiser, lambda: Quantiser(STEP / 4), "round", {"quantiser"}),
    "no steps": (check_quantiser, Injective, "blocks", {"quantiser"}),
    "half the threshold": (
        check_threshold,
        lambda: SoftThreshold(TAU / 2, LEVELS),
        "shrink",
        {"soft-threshold.killed", "soft-threshold.found"},
    ),
    "twice the threshold": (
        check_threshold,
        lambda: SoftThreshold(2 * TAU, LEVELS),
        "shrink",
        {"soft-threshold.killed", "soft-threshold.kept", "soft-threshold.found"},
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_oracle_is_noticed(name):
    check, network, layer, failing = BROKEN[name]
    rows = check(at(network(), layer), Seeds(3, "twin"))
    assert {row.id for row in rows if not row.holds} >= failing, rows


def test_a_flow_is_trained_to_the_linear_truth():
    kept = kept_by_blocks(8, 2)
    rows = check_linear(module._split("projection"), kept, Seeds(0, "projection"), case=SMALL)
    assert tuple(row.id for row in rows) == CHECKS["projection"].rows
    assert all(verdicts(rows).values()), rows


def test_a_flow_that_is_given_another_z_does_not_reach_it():
    kept = kept_by_lowpass(8, 0.35)
    rows = check_linear(at(LowPass(0.2), "filter"), kept, Seeds(0, "linear-lowpass"), case=SMALL)
    found = verdicts(rows)
    # It fits the z that it is given.
    assert {row for row, holds in found.items() if holds} == {"linear-lowpass.sbc", "linear-lowpass.tarp"}, (
        rows
    )


@pytest.mark.parametrize("width", [0.7, 1.4])
def test_draws_that_are_too_narrow_or_too_wide_are_not_calibrated(width, monkeypatch):
    right = CINN.inverse
    monkeypatch.setattr(CINN, "inverse", lambda cinn, v, h: right(cinn, width * v, h))
    kept = kept_by_blocks(8, 2)
    found = verdicts(check_linear(module._split("projection"), kept, Seeds(0, "projection"), case=SMALL))
    assert not found["projection.sbc"]
    assert not found["projection.tarp"]


def test_a_mixture_is_learnt_where_training_is_long_enough():
    """The start alone misses it: the row cannot hold without training."""
    kept, gaps = kept_by_blocks(8, 2), {}
    for steps in (1, 300):
        config = SMALL.config.model_copy(
            update={"steps": steps, "lr": 5e-3, "evaluate_every": steps, "hidden": 48}
        )
        case = replace(SMALL, config=config)
        (row,) = check_mixture(module._split("projection"), kept, Seeds(0, "mixture"), case=case)
        gaps[steps] = row.value
    assert gaps[1] > 0.05
    assert gaps[300] < 0.6 * gaps[1]


def test_a_training_that_is_stopped_promises_no_checkpoint(monkeypatch):
    def stop(*args, **named):
        raise Interrupted(signal.SIGTERM, "goes on from the checkpoint")

    monkeypatch.setattr("invkit.validate.training.train_cinn", stop)
    with pytest.raises(Interrupted, match="begins anew") as caught:
        check_linear(at(LowPass(0.2), "filter"), kept_by_lowpass(8, 0.2), Seeds(0, "x"), case=SMALL)
    assert caught.value.exit_code == 143


def test_the_flow_is_exact():
    rows = check_flow(Seeds(0, "flow"), (TINY,))
    assert tuple(row.id for row in rows) == CHECKS["flow"].rows
    assert all(verdicts(rows).values()), rows


def test_a_log_det_that_forgets_a_part_is_noticed(monkeypatch):
    forward = Coupling.forward
    monkeypatch.setattr(
        Coupling, "forward", lambda *args: (forward(*args)[0], args[1].new_zeros(args[1].shape[:-1]))
    )
    assert verdicts(check_flow(Seeds(0, "flow"), (TINY,))) == {
        "flow.inverse": True,
        "flow.inverse-double": True,
        "flow.logdet": False,
    }


def test_an_inverse_that_rounds_is_noticed(monkeypatch):
    inverse = Coupling.inverse
    monkeypatch.setattr(Coupling, "inverse", lambda *args: inverse(*args).bfloat16().to(args[1]))
    found = verdicts(check_flow(Seeds(0, "flow"), (TINY,)))
    assert not found["flow.inverse"]
    assert not found["flow.inverse-double"]


def test_every_row_that_is_asked_for_exists_once():
    ids = [row for check in CHECKS.values() for row in check.rows]
    assert len(ids) == len(set(ids))
    assert set(ASKED) <= set(ids)
    assert all(row.split(".")[0] == name for name, check in CHECKS.items() for row in check.rows)


def rows_of(seeds, progress):
    good = 1.0 + 0 * float(torch.rand(1, generator=seeds.generator("x")))
    return [Row(f"{seeds.name}.a", "one", good, 1.0), Row(f"{seeds.name}.b", "two", math.nan, 1.0, ">=")]


FEW = {name: Check((f"{name}.a", f"{name}.b"), rows_of) for name in ("first", "second", "second-and-more")}


def test_only_what_is_wanted_is_measured():
    told = []
    found = validate(["second"], checks=FEW, progress=told.append)
    assert [row.id for row in found.rows] == ["second.a", "second.b"]
    assert list(found.seconds) == ["second"]
    assert [event.stage for event in told] == ["validate second"]
    assert [row.id for row in validate(["first.b", "second.a"], checks=FEW).rows] == ["first.b", "second.a"]
    assert len(validate(checks=FEW).rows) == 6


@pytest.mark.parametrize("wrong", ["secnd", "first.c", "", "first."])
def test_an_unknown_row_is_answered_with_what_there_is(wrong):
    with pytest.raises(UnknownNameError, match=r"There are: first\.a, first\.b"):
        validate(["first", wrong], checks=FEW)
    with pytest.raises(UnknownNameError, match="did you mean 'second'"):
        validate(["secnd"], checks=FEW)


def test_what_could_not_be_measured_does_not_hold():
    found = validate(["first"], seed=4, checks=FEW)
    assert found.failed == ("first.b",)
    stated = found.to_json()
    assert (stated["holds"], stated["seed"]) == (False, 4)
    assert stated["rows"] == [
        {"id": "first.a", "measure": "one", "value": 1.0, "relation": "<=", "bound": 1.0, "holds": True},
        {"id": "first.b", "measure": "two", "value": None, "relation": ">=", "bound": 1.0, "holds": False},
    ]
    for value in (math.nan, math.inf):
        assert not Row("x", "", value, 1.0).holds
    assert not Row("x", "", -math.inf, 1.0, ">=").holds


def test_fewer_than_eight_certified_samples_are_no_measurement():
    """A layer that nothing reaches: its activation of any other image is far, and no gradient leads there."""

    class Step(nn.Module):
        def forward(self, x):
            return x + 100 * x.detach().sign()

    rows = check_band(at(nn.Sequential(Step(), nn.Identity()), "0"), Seeds(0, "twin"))
    assert not any(verdicts(rows).values())


@pytest.mark.slow
def test_everything_holds_at_full_size():
    found = validate()
    assert set(ASKED) <= {row.id for row in found.rows}
    assert found.failed == ()
    assert sum(found.seconds.values()) < 900
