import itertools

import pytest

from invkit.statistics.intervals import Interval
from invkit.verdict.measures import RandomWeights
from invkit.verdict.rules import (
    REFERENCES,
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


def told(verdict):
    return " ".join((*verdict.sentences, *verdict.samples))


def test_spread_beyond_both_intervals_exceeds_the_floor():
    verdict = judge(measures())
    assert verdict.floor is False
    assert verdict.warnings == ()
    assert "exceeds the method's floor" in told(verdict)


@pytest.mark.parametrize("control", [Interval(30, 28, 39), Interval(45, 44, 46), 40.0])
def test_spread_within_the_control_is_the_floor(control):
    verdict = judge(measures(spread_input=control))
    assert verdict.floor is True
    assert "method's floor and says nothing about the layer" in told(verdict)


@pytest.mark.parametrize(("control", "floor"), [("input", True), ("const", False)])
def test_controls_are_called_controls(control, floor):
    verdict = judge(measures(control=control))
    assert verdict.floor is floor
    assert f"`{control}` control" in verdict.samples[1]


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
        text = " ".join((told(verdict), *verdict.warnings)).lower()
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
    assert "retains 92 % of what the code holds" in told(judge(measures()))


@pytest.mark.parametrize(
    ("layer", "words"), [(-0.988, "99 %"), (-0.998, "99.8 %"), (-0.99996, "99.996 %"), (-1.0, "100 %")]
)
def test_nearly_all_is_not_called_all(layer, words):
    nll = {"layer": layer, "input": -1.0, "const": 0.0, "floor": -1.0}
    assert f"retains {words} of what the code holds" in told(judge(measures(nll=nll)))


@pytest.mark.parametrize(
    ("eta", "words"),
    [(0.05, "distinguishes most samples"), (0.3, "within the noise"), (5.0, "small compared with the noise")],
)
def test_fiber_error_in_units_of_noise(eta, words):
    assert words in told(judge(measures(noise_distance=eta)))


def test_out_of_distribution_above_the_quantile_only():
    assert distribution_warning(60.0, 60.0) is None
    assert "outside the distribution" in distribution_warning(60.1, 60.0)
    assert judge(measures(vae_rmse=99.0)).warnings[0].startswith("The image lies outside")


def test_input_control_above_the_vae_is_a_remark():
    verdict = judge(measures(fiber_error=GOOD | {"input": 0.2}))
    assert verdict.warnings == ()
    assert "loses part of x" in told(verdict)


def test_draws_are_counted_with_what_was_rejected():
    drawn = Certification(16, 16, 0.05, f_error=0.3, rejected=2)
    text = told(judge(measures(certification=drawn)))
    assert "16 of 16 images that were drawn are certified" in text
    assert "more than 0.05 repeat scans (2 attempts did in one, drawn again)" in text
    assert "f of them differs from f(x) by 0.3 HU" in text


@pytest.mark.parametrize(("changed", "warned"), [(0.0, False), (-0.019, False), (-0.021, True), (0.03, True)])
def test_rejection_that_changes_the_spread_is_a_warning(changed, warned):
    found = judge(measures(certification=Certification(16, 16, 0.05, rejected=2, changed=changed)))
    assert any("changes their spread" in warning for warning in found.warnings) is warned


def test_the_spread_of_witnesses_is_called_that_of_their_proposals():
    witnesses = Certification(7, 8, 0.05, 0.8, distance_before=0.6, proposed=83.0, retreated=1)
    text = told(judge(measures(witnesses=witnesses)))
    assert "7 of 8 of its samples are certified at the same tolerance once they are refined" in text
    assert "vary by 0.8 HU, from 83 HU before" in text and "says nothing of the layer" in text
    assert "1 of them could only be reached by starting closer to x" in text


def test_of_draws_of_the_posterior_no_model_is_spoken_of():
    found = judge(measures(posterior=True, certification=Certification(16, 16, 0.05), nll={}))
    assert "model" not in told(found) and "fiber" not in told(found)


def test_too_few_certified_draws_give_a_warning():
    found = judge(Measures("layer 3", 12.0, certification=Certification(1, 16, 0.05)))
    assert any("Only 1 of 16" in warning and "no map" in warning for warning in found.warnings)


@pytest.mark.parametrize(("drawn", "words"), [(1, "1 image of layer 3 was"), (7, "7 images of layer 3 were")])
def test_where_all_are_certified_but_too_few_were_drawn_the_warning_says_so(drawn, words):
    found = judge(Measures("layer 3", 12.0, certification=Certification(drawn, drawn, 0.05)))
    assert found.warnings == (f"Only {words} drawn; fewer than 8 certified ones give no map.",)
    enough = judge(Measures("layer 3", 12.0, certification=Certification(8, 8, 0.05)))
    assert enough.warnings == ()


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
    text = told(verdict)
    assert words in text
    assert "2,000 patches of other patients differs by 0.6" in text
    assert "needs no training" not in text
    assert verdict.warnings == ()
    control = judge(measures(fiber_error=GOOD | BESIDE | noise, control="input", bank=2000))
    assert "energy" not in told(control)


def test_a_sampler_that_needs_no_training_and_comes_as_close_is_named():
    text = told(judge(measures(fiber_error=GOOD | BESIDE | {"training_free": 0.13})))
    assert "needs no training, comes as close to the fiber (0.13)" in text


@pytest.mark.parametrize(
    ("random", "image", "words"),
    [
        (Interval(1, 0.8, 1.2), 1.5, "made the layer hide more than its architecture"),
        (Interval(2, 1.6, 2.45), 1.5, "is not more than what its architecture hides"),
        (2.6, 1.5, "is not more"),
        (Interval(1, 0.8, 1.2), 2.0, "no more than in the image itself (2 HU)"),
    ],
)
@pytest.mark.parametrize("trained", [False, True])
def test_random_weights_are_held_against_its_own_and_the_image(random, image, words, trained):
    beside = RandomWeights(random, Interval(2.5, 2.4, 2.6), image, trained)
    text = told(judge(measures(random_weights=beside)))
    assert "With randomised weights" in text
    assert words in text
    assert ("train" in text) == trained
    assert "randomised weights" not in told(judge(measures()))


def test_the_answer_stands_apart_from_what_is_said_of_a_model():
    drawn = Certification(16, 16, 0.05)
    found = judge(measures(certification=drawn, vae_posterior=39.0, rate=(700.0, 32000.0)))
    assert len(found.sentences) == 1 and "16 of 16 images that were drawn" in found.sentences[0]
    text = " ".join(found.samples)
    assert "posterior of x, without any denoiser, varies by 39 HU: the flow adds nothing beyond it" in text
    assert "Its codes hold 700 nats; to hold the noise of x to within 2 HU takes 32,000" in text
    assert "adds more than that" in " ".join(judge(measures(vae_posterior=20.0)).samples)
