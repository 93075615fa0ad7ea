"""Every rule of the conclusion, each with figures just on either side of it."""

import math

import pytest
import torch

from invkit.data.dose.texture import noise_texture
from invkit.statistics.intervals import Interval
from invkit.verdict.conclusion import ChangeFound, Evidence, conclude, lost_power
from invkit.verdict.measures import Certification, Measures

GOOD = {"samples": 0.13, "vae": 0.1, "input": 0.11, "const": 0.8, "random": 1.0}
NLL = {"layer": -1.0, "input": -1.09, "const": 0.2, "floor": -1.1}
CHANGE = ChangeFound("discs", 1.5, 100.0, 2.0, 30.0, found=False)


def said(evidence=None, **changes):
    base = {
        "layer": "layer 3 of yang2018",
        "spread": 40.0,
        "fiber_error": GOOD,
        "nll": NLL,
        "vae_rmse": 50.0,
        "vae_limit": 60.0,
        "certification": Certification(16, 16, 1e-3, 0.6),
    }
    facts = {"noise": Interval(4.0, 3.0, 5.0), "allowed": 0.6, "change": CHANGE, "certified": 5, "tried": 7}
    return conclude(Measures(**(base | changes)), Evidence(**(facts | (evidence or {}))))


def test_all_in_order_is_interpretable_and_a_lower_bound():
    found = said()
    assert found.interpretable and found.reasons == () and found.anatomy is False
    assert "noise of up to 4 HU is invisible to layer 3 of yang2018" in found.text
    assert "inserted, removed or moved, at most 1.5 HU remained in 5 certified images" in found.text
    assert "16 of 16 refined samples are certified" in found.text
    assert "lower bounds" in found.text


def test_what_remained_is_said_and_not_what_the_tolerance_allows():
    for allowed in (2.0, 20.0):
        change = ChangeFound("discs", 7.0, 100.0, allowed, 30.0, found=False)
        assert "at most 7 HU remained" in said({"change": change}).text


def test_a_change_that_is_left_is_named_with_what_it_is_held_against():
    found = said(
        {"change": ChangeFound("discs of radius 4 pixels put in", 62.0, 100.0, 2.0, 8.0, found=True)}
    )
    assert found.anatomy is True
    for part in ("an anatomical change was found", "keep 62 of 100 HU", "allows 2 HU", "by up to 8 HU"):
        assert part in found.text


def test_what_holds_in_a_window_alone_says_so():
    text = said({"window": (128, 96)}).text
    assert "in a window of 128 x 96 pixels noise of up to" in text
    assert "of that window with altered anatomy" in text
    assert "window" not in said().text


def test_no_sentence_says_that_nothing_was_found_where_power_beyond_noise_was():
    text = said({"beyond": Interval(3.2)}).text
    assert "an anatomical change was found that it does not see: certified samples differ by 3.2 HU" in text
    assert "of the structures that were inserted, removed or moved, at most 1.5 HU remained" in text


def test_power_beyond_noise_is_a_change_as_well():
    found = said({"beyond": Interval(3.2)})
    assert found.anatomy is True and "differ by 3.2 HU that noise of this dose does not explain" in found.text


@pytest.mark.parametrize("noise", [None, Interval(0.6)])
def test_noise_that_epsilon_alone_allows_is_not_called_invisible(noise):
    text = said({"noise": noise}).text
    assert "is invisible to" not in text and "no noise beyond the 0.6 HU" in text


@pytest.mark.parametrize(
    ("evidence", "changes", "reason"),
    [
        (
            {"unrefined": "no gradient of this layer reaches the image"},
            {"certification": None},
            "no gradient",
        ),
        (
            {},
            {"certification": Certification(7, 16, 1e-3, 0.6)},
            "because only 7 of 16 refined samples are certified, and at least 8 are needed.",
        ),
        (
            {},
            {"certification": Certification(4, 4, 1e-3, 0.6)},
            "because only 4 samples were refined, and at least 8 certified ones are needed.",
        ),
        ({}, {"certification": None}, "because no refined sample is certified, and at least 8 are needed."),
        ({}, {"vae_rmse": 60.1}, "out of distribution"),
        ({}, {"fiber_error": GOOD | {"samples": 1.2}}, "fiber errors of samples"),
        ({}, {"nll": NLL | {"layer": 0.3}}, "likelihoods"),
        ({"lost": 0.51}, {}, "representation is incomplete: it loses 51 %"),
    ],
)
def test_each_fault_is_a_reason_and_the_only_one(evidence, changes, reason):
    found = said(evidence, **changes)
    assert not found.interpretable and len(found.reasons) == 1
    assert "not interpretable, because" in found.text and reason in found.text


def test_what_is_just_good_enough_is_no_reason():
    found = said(
        {"lost": 0.5}, vae_rmse=60.0, certification=Certification(8, 16, 1e-3, 0.6), nll=NLL | {"layer": 0.2}
    )
    assert found.interpretable


def test_a_fault_of_the_models_does_not_take_back_a_certificate():
    assert "still holds" in said({}, vae_rmse=99.0).text
    unrefined = said({"unrefined": "no refinement was requested", "change": None}, certification=None)
    assert "still holds" not in unrefined.text and unrefined.anatomy is None


def test_a_control_gets_no_conclusion():
    assert said({}, control="input") is None


def test_the_lost_power_is_that_of_the_closed_form():
    rows, columns = torch.meshgrid(torch.arange(128.0), torch.arange(128.0), indexing="ij")
    wave = 100 * torch.cos(2 * math.pi * (8 * rows + 2 * columns) / 128)[None, None]  # 0.064 cycles per pixel
    noise = 5 * noise_texture(64, 128, 128, generator=torch.Generator().manual_seed(0))
    scans = noise[:32] - noise[32:]
    x = wave + 5 * noise_texture(1, 128, 128, generator=torch.Generator().manual_seed(1))
    for kept in (0.0, 0.4, 0.8):
        assert lost_power(x, kept * wave, scans) == pytest.approx((1 - kept) ** 2, abs=0.03)
    assert lost_power(x, wave, scans) < 0.05  # what is lost is noise
