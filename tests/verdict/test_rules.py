import itertools

import pytest

from invkit.statistics.intervals import Interval
from invkit.verdict.measures import RandomWeights
from invkit.verdict.rules import (
    REFERENCES,
    Baseline,
    Certification,
    Measures,
    distribution_warning,
    judge,
    likelihood_faults,
    order_faults,
)

GOOD = {"samples": 0.13, "vae": 0.1, "input": 0.11, "const": 0.8, "random": Interval(1.0, 0.9, 1.1)}
NLL = {"layer": -1.0, "input": -1.09, "const": 0.2, "floor": -1.1}


def measures(**changes):
    base = {
        "layer": "layer 3 of yang2018",
        "spread": Interval(40, 38, 42),
        "spread_input": Interval(30, 28, 32),
        "spread_f": 20.0,
        "fiber_error": GOOD,
        "noise_distance": 0.3,
        "nll": NLL,
        "vae_rmse": 50.0,
        "vae_limit": 60.0,
    }
    return Measures(**(base | changes))


def test_spread_beyond_both_intervals_exceeds_the_floor():
    verdict = judge(measures())
    assert verdict.floor is False
    assert verdict.warnings == ()
    assert "exceeds the method's floor" in " ".join(verdict.sentences)


@pytest.mark.parametrize("control", [Interval(30, 28, 39), Interval(45, 44, 46), 40.0])
def test_spread_within_the_control_is_the_floor(control):
    verdict = judge(measures(spread_input=control))
    assert verdict.floor is True
    assert "method's floor and says nothing about the layer" in " ".join(verdict.sentences)


@pytest.mark.parametrize(("control", "floor"), [("input", True), ("const", False)])
def test_controls_are_called_controls(control, floor):
    verdict = judge(measures(control=control))
    assert verdict.floor is floor
    assert f"`{control}` control" in verdict.sentences[1]


def test_without_control_nothing_is_claimed():
    assert judge(measures(spread_input=None)).floor is None


def test_text_never_claims_membership():
    for control, spread_input, domain, eta in itertools.product(
        [None, "input", "const"], [None, 10.0, 90.0], ["low", "high"], [None, 0.05, 0.5, 5.0, 0.0]
    ):
        verdict = judge(
            measures(
                control=control, spread_input=spread_input, domain=domain, noise_distance=eta, vae_rmse=99.0
            )
        )
        text = " ".join(verdict.sentences + verdict.warnings).lower()
        assert "invarian" not in text
        assert "spread of the model" in text


def test_errors_in_order_have_no_faults():
    assert order_faults(GOOD) == ()
    assert order_faults({"samples": 0.1}) == ()


@pytest.mark.parametrize("name", ["samples", "vae", "input"])
def test_a_rung_no_closer_than_random_is_a_fault(name):
    faults = order_faults(GOOD | {name: Interval(0.95, 0.85, 1.05)})
    assert len(faults) == 2
    assert all(REFERENCES[name] in fault for fault in faults)


def test_order_faults_are_warnings_for_samples_in_the_fiber_s_domain_only():
    broken = GOOD | {"samples": 1.2}
    assert len(judge(measures(fiber_error=broken)).warnings) == 2
    assert judge(measures(fiber_error=broken, domain="high")).warnings == ()


def test_likelihood_order():
    assert likelihood_faults(NLL) == ()
    assert "input" in likelihood_faults(NLL | {"input": -0.9})[0]
    assert (
        likelihood_faults(NLL | {"input": Interval(-0.9, -1.05, -0.8), "layer": Interval(-1.0, -1.04, -0.9)})
        == ()
    )
    assert len(likelihood_faults({"floor": 1.0, "const": 0.0})) == 1


def test_retained_share_is_stated():
    assert "retains 92 % of what the code holds" in " ".join(judge(measures()).sentences)


@pytest.mark.parametrize(
    ("layer", "words"), [(-0.988, "99 %"), (-0.998, "99.8 %"), (-0.99996, "99.996 %"), (-1.0, "100 %")]
)
def test_nearly_all_is_not_called_all(layer, words):
    nll = {"layer": layer, "input": -1.0, "const": 0.0, "floor": -1.0}
    assert f"retains {words} of what the code holds" in " ".join(judge(measures(nll=nll)).sentences)


@pytest.mark.parametrize(
    ("eta", "words"),
    [(0.05, "distinguishes most samples"), (0.3, "within the noise"), (5.0, "small compared with the noise")],
)
def test_fiber_error_in_units_of_noise(eta, words):
    assert words in " ".join(judge(measures(noise_distance=eta)).sentences)


def test_out_of_distribution_above_the_quantile_only():
    assert distribution_warning(60.0, 60.0) is None
    assert "outside the distribution" in distribution_warning(60.1, 60.0)
    assert judge(measures(vae_rmse=99.0)).warnings[0].startswith("The image lies outside")


def test_input_control_above_the_vae_is_a_remark():
    verdict = judge(measures(fiber_error=GOOD | {"input": 0.2}))
    assert verdict.warnings == ()
    assert "loses part of x" in " ".join(verdict.sentences)


def test_certificates_are_counted_and_their_spread_stands_beside_what_epsilon_allows():
    found = judge(Measures("layer 3", 12.0, certification=Certification(16, 16, 1e-3, 0.4, 2.5, 0.3)))
    text = " ".join(found.sentences)
    assert "16 of 16 refined samples are certified" in text
    assert "vary by 2.5 HU" in text
    assert "0.4 HU" in text
    assert "nothing is proven" not in text
    assert not any("certified" in warning for warning in found.warnings)
    small = judge(Measures("layer 1", 12.0, certification=Certification(16, 16, 1e-3, 0.4, 0.3, 0.1)))
    text = " ".join(small.sentences)
    assert (
        "vary by 0.3 HU, not clearly more than the 0.4 HU that this tolerance allows: nothing is proven"
        in text
    )
    assert "which the layer cannot see" not in text


def test_too_few_certified_samples_give_a_warning_and_no_spread_of_one():
    found = judge(Measures("layer 3", 12.0, certification=Certification(1, 16, 1e-3, 0.4)))
    assert any("Only 1 of 16" in warning and "no map" in warning for warning in found.warnings)
    assert not any("They vary by" in sentence for sentence in found.sentences)


@pytest.mark.parametrize(
    ("refined", "words"), [(1, "1 sample of layer 3 was"), (7, "7 samples of layer 3 were")]
)
def test_where_all_are_certified_but_too_few_were_refined_the_warning_says_so(refined, words):
    found = judge(Measures("layer 3", 12.0, certification=Certification(refined, refined, 1e-3, 0.4)))
    assert found.warnings == (f"Only {words} refined; fewer than 8 certified ones give no map.",)
    enough = judge(Measures("layer 3", 12.0, certification=Certification(8, 8, 1e-3, 0.4)))
    assert enough.warnings == ()


@pytest.mark.parametrize(
    ("spread", "free", "beaten"),
    [
        (Interval(4.0, 3.8, 4.2), Interval(2.0, 1.8, 2.2), True),
        (Interval(2.1, 1.9, 2.3), Interval(2.0, 1.8, 2.2), False),
        (Interval(1.0, 0.9, 1.1), Interval(2.0, 1.8, 2.2), False),
        (Interval(1.0, 0.9, 1.1), None, True),
        (None, Interval(2.0, 1.8, 2.2), False),
        (None, None, False),
    ],
)
def test_a_model_has_to_beat_the_proposals_that_need_no_training(spread, free, beaten):
    baseline = Baseline(8, 8, free, plausible=6 if free else 1, own=spread)
    assert baseline.beaten is beaten
    found = Certification(16, 16, 1e-3, 0.6, spread, baseline=baseline)
    text = " ".join(judge(measures(certification=found)).sentences)
    assert ("does not beat this baseline" in text) is not beaten
    assert ("it finds more" in text) is beaten
    assert f"8 are certified at this tolerance, {6 if free else 1} of them plausible" in text
    assert ("no two plausible ones" in text) is (spread is None)
    assert ("vary by 2.00 HU [1.80, 2.20]" in text) is (free is not None)


def test_what_both_kinds_of_proposals_vary_by_stands_beside_the_comparison():
    spread = Interval(3.0, 2.8, 3.2)
    baseline = Baseline(8, 8, 1.0, plausible=8, own=spread, proposed=(26.6, Interval(83.5, 83, 84)))
    text = " ".join(
        judge(measures(certification=Certification(16, 16, 1e-3, 0.6, spread, baseline=baseline))).sentences
    )
    assert "8 training-free proposals (f(x) plus noise that varies by 26.6 HU), 8 are certified" in text
    assert (
        "plausible ones that vary by 3.00 HU [2.80, 3.20], from proposals that vary by 83.5 HU [83.0, 84.0]"
        in text
    )


BESIDE = {
    "training_free": 0.4,
    "noise_white": 0.3,
    "noise_residual": 0.2,
    "nearest": 0.6,
    "unconditional": 1.4,
}


def test_samples_are_held_against_the_nearest_of_a_bank_and_against_the_prior():
    assert order_faults(GOOD | BESIDE) == ()
    (fault,) = order_faults(GOOD | BESIDE | {"nearest": 0.12})
    assert "the samples (0.13)" in fault
    assert "nearest found" in fault
    # the VAE's reconstruction and the `input` control are not asked to beat a search
    assert len(order_faults(GOOD | BESIDE | {"unconditional": 0.05})) == 3


@pytest.mark.parametrize(
    ("noise", "words"),
    [
        ({}, "closer to the fiber than their size explains"),
        ({"noise_white": 0.13}, "no closer to the fiber than noise of the same size"),
        (
            {"noise_residual": Interval(0.14, 0.12, 0.16)},
            "no closer to the fiber than noise of the same size",
        ),
    ],
)
def test_noise_of_equal_energy_is_the_measure_of_raw_samples(noise, words):
    verdict = judge(measures(fiber_error=GOOD | BESIDE | noise, bank=2000))
    text = " ".join(verdict.sentences)
    assert words in text
    assert "2,000 patches of other patients differs by 0.6" in text
    assert "needs no training" not in text
    assert verdict.warnings == ()
    control = judge(measures(fiber_error=GOOD | BESIDE | noise, control="input", bank=2000))
    assert "energy" not in " ".join(control.sentences)


def test_a_sampler_that_needs_no_training_and_comes_as_close_is_named():
    text = " ".join(judge(measures(fiber_error=GOOD | BESIDE | {"training_free": 0.13})).sentences)
    assert "needs no training, comes as close to the fiber (0.13)" in text


@pytest.mark.parametrize(
    ("random", "allowed", "words"),
    [
        (Interval(1, 0.8, 1.2), 0.4, "more than its architecture"),
        (2.6, 0.4, "is not more"),
        (Interval(1, 0.8, 1.2), 2.45, "not clearly more than the 2.45 HU that the tolerance allows"),
    ],
)
def test_random_weights_are_held_against_the_certified_spread(random, allowed, words):
    spread = Interval(2.5, 2.4, 2.6)
    proof = Certification(16, 16, 1e-3, 0.4, spread, 0.3)
    beside = RandomWeights(random, spread, allowed)
    text = " ".join(judge(measures(certification=proof, random_weights=beside)).sentences)
    assert "With randomised weights" in text
    assert words in text
    assert "randomised weights" not in " ".join(judge(measures(certification=proof)).sentences)
