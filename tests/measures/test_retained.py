"""Retained information over depth, with likelihoods of a chain whose information is known."""

import numpy as np
import pytest

from invkit.errors import InputError
from invkit.measures.retained import retained_curve
from invkit.statistics.convergence import Convergence
from invkit.statistics.intervals import Interval
from invkit.statistics.tree import as_json

PATIENTS = np.repeat(np.arange(20), 8).tolist()


def rows(values, *, spread=0.3, own=0.05, seed=0):
    """Return NLLs of 160 codes under layers: a difficulty that all share, and a little of their own."""
    rng = np.random.default_rng(seed)
    shared = np.repeat(rng.normal(scale=spread, size=20), 8) + rng.normal(scale=spread, size=160)
    return {name: value + shared + rng.normal(scale=own, size=160) for name, value in values.items()}


def curve(values, **options):
    made = rows({**values, "const": 0.2, "floor": -1.0}, seed=options.pop("rows_seed", 0))
    const, floor = made.pop("const"), made.pop("floor")
    return retained_curve(made, const, floor, PATIENTS, **options)


def test_positions_and_order():
    found = curve({"1": -0.98, "3": -0.7, "5": -0.4})
    assert found.layers == ("1", "3", "5")
    for one, expected in zip(found.retained, (1.18 / 1.2, 0.75, 0.5), strict=True):
        assert one.value == pytest.approx(expected, abs=0.01)
        assert one.low < one.value < one.high
        assert one.high - one.low < 0.05  # paired: the difficulty of a code drops out
    assert found.rises == ()
    assert found.trusted is True
    assert found.reasons == ()


def test_a_rise_is_named():
    found = curve({"1": -0.4, "3": -0.6, "5": -0.3})
    assert [(rise.shallow, rise.deep) for rise in found.rises] == [("1", "3")]
    assert found.rises[0].difference.value == pytest.approx(0.2 / 1.2, abs=0.01)
    assert found.trusted is False
    assert "3 seems to retain" in found.reasons[0]
    assert as_json(found)["rises"][0]["deep"] == "3"


def test_equal_layers_seldom_seem_to_rise():
    values = {str(layer): -0.5 for layer in range(8)}
    rises = [curve(values, rows_seed=seed, draws=400).trusted is False for seed in range(40)]
    assert np.mean(rises) <= 0.15


def test_the_same_rows_do_not_rise():
    made = rows({"a": -0.5, "const": 0.2, "floor": -1.0})
    found = retained_curve({"a": made["a"], "b": made["a"]}, made["const"], made["floor"], PATIENTS)
    assert found.trusted is True


def test_more_than_everything_is_not_trusted():
    found = curve({"1": -1.3})
    assert found.trusted is False
    assert "outside 0 to 1" in found.reasons[0]
    assert "outside 0 to 1" in curve({"1": 0.5}).reasons[0]


def test_a_training_that_was_cut_short_is_not_trusted():
    ended = {"1": Convergence(200, 0.001, 0.005), "3": Convergence(200, 0.02, 0.005)}
    found = curve({"1": -0.9, "3": -0.5}, convergence=ended)
    assert found.trusted is False
    assert found.reasons == (
        "The training of 3 had not converged: the second half of its steps still gained 0.02 of what the code "
        "holds, more than 0.005 of what the code holds.",
    )
    assert as_json(found)["layers"][1]["converged"] is False
    unknown = curve({"1": -0.9}, convergence={"1": Convergence(None, None, 0.005)})
    assert unknown.trusted is False and "Nothing says" in unknown.reasons[0]


def test_a_layer_with_a_way_round_it_is_no_bound_for_what_comes_after():
    values = {"1": -0.4, "3": -0.6, "5": -0.3}
    assert curve(values, bypassed=("1",)).trusted is True
    assert curve(values, bypassed=("3",)).trusted is False


def test_one_patient_says_nothing_of_order():
    found = retained_curve({"1": [-0.2], "3": [-0.5]}, [0.2], [-1.0])
    assert found.trusted is None
    assert found.retained[1] == Interval(0.7 / 1.2) or found.retained[1].value == pytest.approx(0.7 / 1.2)
    assert as_json(found)["trusted"] is None


def test_refuses_rows_that_do_not_match():
    with pytest.raises(InputError, match="same rows"):
        retained_curve({"1": [0.1, 0.2]}, [0.2], [-1.0])
    with pytest.raises(InputError, match="at least one layer"):
        retained_curve({}, [0.2], [-1.0])
    with pytest.raises(InputError, match="NLL of 1"):
        retained_curve({"1": [np.nan]}, [0.2], [-1.0])
