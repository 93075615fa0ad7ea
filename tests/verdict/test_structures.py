"""Sentences on structures and noise, by their rules."""

import pytest

from invkit.verdict.structures import HIDES, DiscFound, StructureFound, StructuresFound, structure_sentences


def disc(radius=2.0, kept=0.7, lost=1e-4, lost_image=4e-3, hidden=9.8, hidden_image=11.7):
    return DiscFound(radius, kept, lost, lost_image, hidden, hidden_image)


def said(**changes):
    base = {
        "discs": [disc(1.0, kept=0.65), disc(2.0), disc(8.0, kept=0.96)],
        "tissue": "lung",
        "noise": 53.0,
        "left": 34.0,
        "hidden": 0.83,
        "hidden_image": 2.7,
        "tolerance": 0.0487,
        "mark": "grey_level",
        "needed": None,
        "window": None,
        "converged": True,
    }
    return structure_sentences("layer 3 of yang2018", StructuresFound(**(base | changes)))


def test_what_f_keeps_comes_first():
    first, _ = said()
    assert first == (
        "f keeps 65 % of the contrast of discs of radius 1 px and 96 % at 8 px in lung, and leaves 34 of 53 HU of dose noise."
    )


def test_a_layer_that_hides_no_more_than_the_tolerance_explains_says_so():
    _, text = said()
    assert text.startswith(
        "At a tolerance of 0.0487 repeat scans (dose noise that changes f(x) by one grey level"
    )
    assert "hides no more of a disc than the image itself does, within 1.3 times" in text
    assert "9.8 HU at radius" in text and "11.7 HU for the image" in text
    assert "loses 0.01 % of the detectability of discs at most (0.4 % for the image)" in text
    assert "0.83 HU of dose noise is hidden, no more than in the image (2.7 HU)" in text


@pytest.mark.parametrize(("ratio", "more"), [(0.99 * HIDES, False), (1.01 * HIDES, True)])
def test_the_ratio_to_the_image_decides(ratio, more):
    _, text = said(discs=[disc(hidden=10 * ratio, hidden_image=10.0)], hidden=2.7 * ratio)
    assert ("times what the tolerance alone explains" in text) == more
    assert ("of dose noise is hidden, more than in the image" in text) == more


def test_the_size_at_which_a_layer_hides_most_in_comparison_is_named():
    discs = [disc(1.0, hidden=40.0, hidden_image=38.0), disc(4.0, hidden=12.0, hidden_image=5.0)]
    _, text = said(discs=discs)
    assert "hides a disc of 12 HU at radius 4 px, 2.4 times what the tolerance alone explains (5 HU)" in text


def test_an_image_that_is_too_small_or_has_no_tissue_says_so():
    first, text = said(discs=[], tissue=None, hidden=None, hidden_image=None, needed=48)
    assert "No place for a disc in soft tissue, lung or bone" in first
    assert "needs an image of 48 pixels a side" in text


def test_a_window_is_named():
    assert said(window=(128, 96))[0].startswith("In a window of 128 x 96 pixels, f keeps 65 %")


def test_what_did_not_converge_is_said():
    assert "Not all of these figures converged" in said(converged=False)[-1]
    assert len(said()) == 2


def test_all_kinds_have_a_sentence_of_their_own():
    every = [
        StructureFound("discs of radius 8 px in lung", 100.0, 0.98, 3.0, 4.0),
        StructureFound("line pairs of 2 px in bone", 3.0, 0.31, 50.0, 20.0),
        StructureFound("edges of 4 px in lung", 3.0, 0.55, 30.0, 29.0),
    ]
    assert len(said(every=every)) == 3
    assert said(every=every)[2] == (
        "Of all kinds, sizes, contrasts and tissues of structures, f keeps between 31 % of 3 HU of line pairs of 2 px in bone and "
        "98 % of 100 HU of discs of radius 8 px in lung; compared with the image itself, layer 3 of yang2018 hides most of "
        "line pairs of 2 px in bone: 50 HU, 20 HU for the image."
    )


def test_condition_and_frequencies_are_said_where_they_are_known():
    _, text = said(condition=(6.29, False), high=(0.85, 0.12))
    assert "layer 3 of yang2018 has a condition of 6.29 (the image itself 1)" in text
    assert "85 % of it above a quarter cycle per pixel (of the dose noise 12 %)" in text
    assert "a condition of at least 146" in said(condition=(146.0, True))[1]
    assert "condition" not in said()[1] and "quarter cycle" not in said()[1]
