"""Every rule of the conclusion, each with figures just on either side of it."""

from dataclasses import replace

import pytest

from invkit.verdict.conclusion import NONE_ASKED, conclude, over_layers, over_slices
from invkit.verdict.measures import Certification, Measures
from invkit.verdict.structures import HIDES, DiscFound, StructuresFound, structure_sentences

LAYER = "layer 3 of yang2018"
DISCS = [DiscFound(2.0, 0.7, 0.01, 0.02, 12.0, 10.0), DiscFound(4.0, 0.8, 0.01, 0.02, 5.0, 5.0)]
ALL = Certification(16, 16, 0.05)
FOUND = StructuresFound(DISCS, "soft tissue", 40.0, 13.0, 2.0, 1.9, 0.05, "grey_level", None, None, True)


def said(undrawn="", drawn=ALL, control=None, **changes):
    measures = Measures(LAYER, 40.0, certification=drawn, control=control, vae_rmse=99.0, vae_limit=60.0)
    found = None if changes.pop("unmeasured", False) else replace(FOUND, **changes)
    return conclude(measures, found, undrawn)


def test_all_in_order_is_interpretable_whatever_a_model_would_say():
    found = said()
    assert found.interpretable and found.reasons == () and found.anatomy is False
    assert f"{LAYER} hides no more of a disc than the tolerance explains" in found.text
    assert "of the 40 HU of dose noise, 2 HU hide from it, no more than the tolerance explains" in found.text


@pytest.mark.parametrize(("hidden", "anatomy"), [(12.9, False), (13.1, True)])
def test_a_disc_that_exceeds_what_the_image_hides_is_named(hidden, anatomy):
    found = said(discs=[replace(DISCS[0], hidden=hidden), DISCS[1]])
    assert found.anatomy is anatomy
    assert (
        "hides discs of up to 13.1 HU at radius 2 px, where the tolerance explains 10 HU" in found.text
    ) is anatomy


@pytest.mark.parametrize(
    ("hidden", "words"), [(2.46, "no more than the tolerance"), (2.48, "1.9 HU is what the tolerance")]
)
def test_noise_likewise(hidden, words):
    assert words in said(hidden=hidden).text


def test_without_a_place_for_a_disc_nothing_is_said_of_structures():
    found = said(discs=[])
    assert found.anatomy is None and "disc" not in found.text


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        (
            {"undrawn": "no gradient of this layer reaches the image", "drawn": None, "unmeasured": True},
            "no gradient",
        ),
        (
            {"drawn": Certification(7, 16, 0.05)},
            "only 7 of 16 images that were drawn are certified, and at least 8 are needed",
        ),
        (
            {"drawn": Certification(4, 4, 0.05)},
            "only 4 images were drawn, and at least 8 certified ones are needed",
        ),
        ({"needed": 96}, "padding reaches too far into the image for a spread: that needs 96 pixels"),
        ({"converged": False}, "nearly singular"),
    ],
)
def test_each_fault_is_a_reason_and_the_only_one(facts, reason):
    found = said(**facts)
    assert not found.interpretable and len(found.reasons) == 1
    assert "not interpretable, because" in found.text and reason in found.text


def test_what_was_measured_stands_beside_a_reason():
    assert "What was measured: " in said(converged=False).text
    assert "What was measured" not in said(undrawn="no gradient", drawn=None, unmeasured=True).text


def test_just_enough_draws_are_no_reason():
    assert said(drawn=Certification(8, 16, 0.05)).interpretable


def test_a_control_gets_no_conclusion():
    assert said(control="input") is None


@pytest.mark.parametrize("discs", [0.5, 1.0, HIDES, 1.31, 4.0])
@pytest.mark.parametrize("noise", [0.5, 1.0, HIDES, 1.31, 4.0])
def test_the_short_sentence_and_the_long_one_say_the_same(discs, noise):
    """What is hidden beyond the tolerance is decided once: no verdict calls one thing hidden and not hidden."""
    facts = {"discs": [replace(DISCS[0], hidden=discs * 10.0)], "hidden": noise * 1.9}
    short, long = said(**facts), structure_sentences(LAYER, replace(FOUND, **facts))[1]
    assert short.anatomy is (discs > HIDES)
    assert (
        ("hides discs of up to" in short.text)
        == ("times what the tolerance alone explains" in long)
        == (discs > HIDES)
    )
    assert (
        ("of dose noise hide from it (" in short.text)
        == ("noise is hidden, more than" in long)
        == (noise > HIDES)
    )


@pytest.mark.parametrize(
    ("facts", "advice"),
    [
        ({"undrawn": NONE_ASKED, "drawn": None}, "--refine 16"),
        ({"undrawn": "this layer gives the same z for all images", "drawn": None}, "choose another layer"),
        ({"drawn": Certification(7, 16, 0.05)}, "--refine 16"),
        ({"needed": 96}, "at least 96 x 96 pixels"),
        ({"converged": False}, "a layer further ahead"),
        ({"noise": 0.1}, "--noise-scans"),
    ],
)
def test_what_is_not_interpretable_says_what_to_do(facts, advice):
    found = said(**facts)
    assert not found.interpretable
    assert found.answer[0].startswith("Not interpretable, because ") and advice in found.answer[1]


def test_the_answer_ends_with_what_was_asked_for():
    found = replace(said(), asked=("The marked structure is seen.",))
    assert found.answer == (found.answer[0], "The marked structure is seen.")
    assert found.answer[0].startswith("Layer 3 of yang2018 hides no more")


def test_one_sentence_over_several_layers():
    plain, both, noisy = (
        replace(said(), anatomy=anatomy, noise=noise)
        for anatomy, noise in ((False, False), (True, True), (False, True))
    )
    lost = replace(plain, interpretable=False)
    assert over_layers({"1": plain}) == "Layer 1 hides nothing beyond what the tolerance explains."
    assert over_layers({"1": plain, "3": noisy, "5": noisy, "output": both, "8": lost}) == (
        "The output hides structures and noise beyond what the tolerance explains; layers 3 and 5 hide noise, but no disc, "
        "beyond what the tolerance explains; layer 1 nothing beyond it; layer 8 is not interpretable."
    )
    assert over_layers({"1": lost, "3": lost}) == "Layers 1 and 3 are not interpretable."


def test_what_slices_come_to_says_how_many_are_interpretable_and_why_not():
    plain, noisy = replace(said(), noise=False), replace(said(), noise=True)
    small = said(needed=96)
    assert over_slices("3", [plain.to_json(), noisy.to_json()]) == (
        "Layer 3: 2 of 2 slices are interpretable. Of these, none hide a disc and 1 hides noise beyond what the tolerance explains."
    )
    assert over_slices("3", [small.to_json()] * 3) == (
        "Layer 3: 0 of 3 slices are interpretable, because padding reaches too far into the image for a spread: that needs 96 "
        "pixels a side (3). What to do: analyse an image of at least 96 x 96 pixels."
    )
