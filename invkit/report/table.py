"""The rows of the tables of figures: which figure, its value with interval and unit, and what it means."""

__all__ = ["Row", "figure", "ladder", "overview", "rows"]

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from invkit.errors import InputError
from invkit.report.data import LayerFigures
from invkit.statistics.intervals import Interval
from invkit.verdict.measures import LADDER

NATS, SPREAD_OF_F = "nats/dim", "Spread of f, HU"
# shown in tables of their own
ELSEWHERE = ("ladder.eta.", "ladder.f_error_hu.", "variation.")
KNOWN: dict[str, tuple[str, str, str]] = {
    "spread_hu": (
        "Spread of the samples",
        "HU",
        "how far samples differ from each other: the spread of the model",
    ),
    "certified.count": (
        "Certified samples",
        "",
        "refined samples that lie within epsilon of z, by Phi itself",
    ),
    "certified.refined": ("Refined samples", "", "how many were tried"),
    "certified.spread_hu": (
        "Spread of the certified samples",
        "HU",
        "proven to be invisible to the layer within epsilon",
    ),
    "certified.spread_epsilon_hu": (
        "Spread that epsilon allows",
        "HU",
        "what the tolerance alone leaves in the `input` control at most",
    ),
    "certified.proposal_spread_hu": (
        "Spread of their proposals",
        "HU",
        "the same draws before refinement, completed by noise where their representation loses it",
    ),
    "certified.epsilon": ("Epsilon", "", "largest fiber error of a certified sample"),
    "certified.plausible.count": (
        "Plausible samples",
        "",
        "certified samples within 1 to 99 % of held-out low-dose images in noise, texture, critic score and code",
    ),
    "certified.plausible.outside": ("Implausible samples", "", "certified samples outside of that"),
    "certified.plausible.real": ("Images beside them", "", "held-out low-dose images behind these quantiles"),
    "certified.plausible.real_outside": (
        "Share of those images outside",
        "",
        "by the same rule: what chance alone gives",
    ),
    "certified.plausible.images": (
        "Which images these are",
        "",
        "what a sample is unlike, where it is outside",
    ),
    "certified.plausible.traits": ("Traits compared", "", "those that are known of the samples"),
    "certified.plausible.x_inside": (
        "x itself is inside",
        "",
        "whether the image under test is like the others",
    ),
    "certified.fiber_error_before": (
        "Fiber error before refinement",
        "",
        "of the samples, completed with noise",
    ),
    "certified.fiber_error": ("Fiber error after refinement", "", "of all refined samples"),
    "certified.f_error_hu": (
        "Change of f, certified",
        "HU",
        "distance of f of a certified sample from f of x",
    ),
    "certified.retreated": ("Certified from nearer to x", "", "refinement failed where they were proposed"),
    "certified.moved_hu": ("Moved by refinement", "HU", "root mean square change of a sample"),
    "certified.training_free.spread_hu": (
        "Certified spread without training",
        "HU",
        "of f(x) plus noise, refined to the same epsilon: the baseline",
    ),
    "certified.training_free.beaten": (
        "The trained model finds more",
        "",
        "whether its certified, plausible spread exceeds the baseline's beyond both intervals",
    ),
    "certified.plausible_spread_hu": (
        "Spread of the certified, plausible samples",
        "HU",
        "of those that are like held-out images, too",
    ),
    "certified.training_free.plausible_spread_hu": (
        "Plausible spread without training",
        "HU",
        "the same of the baseline",
    ),
    "certified.training_free.plausible": (
        "Plausible without training",
        "",
        "of the baseline's certified proposals",
    ),
    "certified.training_free.proposal_spread_hu": ("Spread of the baseline's proposals", "HU", "unrefined"),
    "certified.training_free.count": ("Certified without training", "", "of the baseline's proposals"),
    "certified.training_free.refined": ("Refined without training", "", "how many of these were tried"),
    "certified.training_free.fiber_error_before": (
        "Fiber error of the baseline's proposals",
        "",
        "before refinement",
    ),
    "certified.training_free.moved_hu": ("Baseline moved by refinement", "HU", "root mean square change"),
    "spread_input_hu": (
        "Spread of the `input` control",
        "HU",
        "the method's floor: here z is the whole image",
    ),
    "spread_const_hu": (
        "Spread of the `const` control",
        "HU",
        "the ceiling: here z says nothing about the image",
    ),
    "variance_position": (
        "Place between the controls",
        "",
        "0 is the method's floor, 1 the ceiling, in variance",
    ),
    "spread_f_hu": ("Spread of f of the samples", "HU", "what is left of it after the denoiser"),
    "f_error_hu": ("Change of f", "HU", "distance of f of a sample from f of x"),
    "pairwise_rmse_hu": ("Difference of two samples", "HU", "root mean square over pixels and pairs"),
    "effective_rank": ("Effective rank of the samples", "", "in how many directions the samples vary"),
    "fiber_error.samples": (
        "Fiber error of the samples",
        "",
        "distance of the layer's activation from that of x; two different patches are 1 apart",
    ),
    "fiber_error.vae": ("Fiber error of the VAE's D(E(x))", "", "what the code loses by itself"),
    "fiber_error.input": (
        "Fiber error of the `input` control",
        "",
        "what the method reaches given the whole image",
    ),
    "fiber_error.training_free": (
        "Fiber error of f(x) plus noise",
        "",
        "proposals that need no training, before refinement",
    ),
    "fiber_error.noise_residual": (
        "Fiber error of x plus coloured noise",
        "",
        "noise of the samples' energy, with the spectrum of what the VAE loses",
    ),
    "fiber_error.noise_white": (
        "Fiber error of x plus white noise",
        "",
        "noise of the samples' energy",
    ),
    "fiber_error.nearest": (
        "Fiber error of the nearest patch",
        "",
        "of a bank of other patients' patches; the true nearest is no farther",
    ),
    "fiber_error.unconditional": (
        "Fiber error of the VAE's prior",
        "",
        "images decoded from random codes",
    ),
    "fiber_error.const": ("Fiber error of the `const` control", "", "what it reaches given nothing"),
    "fiber_error.random": (
        "Fiber error of another image",
        "",
        "how far a random image of the same kind is away",
    ),
    "noise_distance": ("Noise at this dose", "", "the same distance between two scans of one anatomy"),
    "fiber_error_eta": ("Fiber error over noise", "", "the samples' fiber error in units of that noise"),
    "ladder.bank": ("Patches in the bank", "", "held-out ones that the nearest is searched among"),
    "ladder.compared": (
        "Patches whose activation was computed",
        "",
        "those of the bank that look most like the image",
    ),
    "random_phi.certified.count": (
        "Certified with random weights",
        "",
        "the same proposals, refined for the same layer with weights drawn anew",
    ),
    "random_phi.certified.refined": ("Refined with random weights", "", "how many were tried"),
    "random_phi.certified.spread_hu": (
        "Certified spread with random weights",
        "HU",
        "what the architecture ignores without any training, in a window of 64 x 64 pixels",
    ),
    "random_phi.certified.trained_spread_hu": (
        "Certified spread in that window",
        "HU",
        "of the trained layer, refined there from the same proposals",
    ),
    "random_phi.certified.trained_count": ("Certified in that window", "", "of the trained layer"),
    "random_phi.certified.trained_spread_epsilon_hu": ("Spread that epsilon allows there", "HU", "at most"),
    "random_phi.certified.f_error_hu": (
        "Change of f with random weights",
        "HU",
        "how the trained denoiser's output changes by it",
    ),
    "random_phi.certified.fiber_error_before": (
        "Fiber error before refinement, random weights",
        "",
        "in units of that layer's own scale",
    ),
    "random_phi.certified.epsilon": ("Epsilon with random weights", "", "by the same rule"),
    "random_phi.noise_distance": ("Noise at this dose, random weights", "", "eta of that layer"),
    "random_phi.spread_hu": ("Spread of samples, random weights", "HU", "of a cINN trained for that layer"),
    "random_phi.fiber_error": (
        "Fiber error of samples, random weights",
        "",
        "of a cINN trained for that layer",
    ),
    "random_phi.nll": ("NLL given z, random weights", NATS, "of a cINN trained for that layer"),
    "random_phi.unavailable": ("No random weights", "", "why this control is missing"),
    "variation.noise_hu": ("Invisible noise", "HU", "certified noise of the dose: a lower bound"),
    "variation.noise_epsilon_hu": (
        "Noise that epsilon allows",
        "HU",
        "if the layer kept everything and all of the tolerance were spent in the part that is measured",
    ),
    "variation.diversity.rmse_hu": ("Difference of two certified samples", "HU", "diversity (E11)"),
    "variation.diversity.rank": ("Effective rank of certified samples", "", "directions they vary in (E11)"),
    "variation.gain.to_noise": (
        "Answer to the differences, over noise",
        "",
        "of the layer's Jacobian; far below 1 where it ignores what samples differ in (E12)",
    ),
    "variation.gain.to_random": ("Answer to the differences, over white noise", "", "the same (E12)"),
    "variation.split.total": ("Certified samples from x", "HU", "root mean square difference"),
    "variation.split.noise": ("of that, noise", "HU", "what noise of the dose explains (E13)"),
    "variation.split.anatomy": ("of that, beyond noise", "HU", "what it does not: a lower bound (E13)"),
    "variation.split.share": ("Share beyond noise", "", "in the mean square (E13)"),
    "variation.split.floor": ("The same for noise alone", "", "by chance, in the same numbers (E13)"),
    "variation.transfer.denoiser": ("Another denoiser", "", "whose output is asked (E15)"),
    "variation.transfer.error_own": ("Certified samples for their own layer", "", "their distance (E15)"),
    "variation.transfer.error": (
        "Its answer",
        "",
        "distance of its output for the certified samples; two different patches are 1 apart (E15)",
    ),
    "variation.transfer.error_random": ("The same for other images", "", "which know nothing of x (E15)"),
    "variation.representation_lost": (
        "Coarse structure lost by the code",
        "",
        "largest share of the power beyond noise, for structures of 10 pixels and more",
    ),
    "vae_rmse_hu": ("Error of the VAE", "HU", "what the code loses of this image"),
    "representation_rmse_hu": (
        "Error of the representation",
        "HU",
        "what the code that samples are drawn in loses of this image",
    ),
    "vae_limit_hu": ("99 % quantile of the VAE's error", "HU", "above it an image is out of distribution"),
    "nll.layer": ("NLL given z", NATS, "how well z predicts the code; lower is better"),
    "nll.input": ("NLL of the `input` control", NATS, "given the whole image"),
    "nll.const": ("NLL of the `const` control", NATS, "given nothing"),
    "nll.floor": ("Floor of the NLL", NATS, "entropy of the code itself; no model can be below"),
    "retained_information": ("Retained information", "", "share of what the code holds that z predicts"),
    "regression_rmse_hu": (
        "Error of the best regression",
        "HU",
        "of x from z on held-out patches: what z does not say of the image, at most",
    ),
    "calibration.holds": ("The flow is calibrated", "", "whether all tests on held-out patches hold"),
    "calibration.matters": (
        "Its misfit matters",
        "",
        "whether a test fails by more than what is called small",
    ),
    "calibration.failing": ("Tests that fail", "", "of SBC, TARP and two of C2ST"),
    "calibration.reach": (
        "Distance of truths from the flow's centre",
        "",
        "in units of its draws; above 1 the samples are too narrow",
    ),
    "calibration.sbc.holds": ("SBC holds", "", "whether all distributions of ranks stay in their band"),
    "calibration.sbc.distance": (
        "Largest distance of ranks from uniform",
        "",
        "of distribution functions, over all quantities",
    ),
    "calibration.sbc.share_outside": (
        "Quantities outside their own band",
        "",
        "share; 0.0125 is expected of a calibrated flow",
    ),
    "calibration.tarp.holds": ("TARP holds", "", "whether 0 lies in the interval of the area"),
    "calibration.tarp.area": (
        "Area between coverage and credibility",
        "",
        "above 0 samples are too wide, below 0 too narrow",
    ),
    "calibration.tarp.bias": ("The same over all credibilities", "", "not 0 where samples lie to one side"),
    "calibration.tarp.curve_inside": ("Coverage stays in its band", "", "at all credibilities together"),
    "calibration.tarp.level": (
        "Level of the band of coverage",
        "",
        "probability of it for a calibrated flow",
    ),
    "calibration.c2st.holds": ("C2ST holds", "", "whether a classifier tells v from a normal distribution"),
    "calibration.c2st.accuracy": ("Accuracy of that classifier", "", "0.5 is chance"),
    "calibration.c2st_given_z.holds": ("C2ST given z holds", "", "the same for a classifier that sees z"),
    "calibration.c2st_given_z.accuracy": ("Accuracy given z", "", "0.5 is chance"),
    "calibration.patches": ("Held-out patches of the tests", "", ""),
    "calibration.patients": ("Their patients", "", "the independent units of all tests"),
    "calibration.level": ("Level of all tests", "", "a calibrated flow passes all of them so often"),
}


@dataclass(frozen=True)
class Row:
    """One figure for people."""

    key: str
    label: str
    value: str
    meaning: str


def _leaves(metrics: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted keys and figures; a mapping with `value` is a figure, any other a group. A list of numbers is a plot's."""
    for key, value in metrics.items():
        if isinstance(value, Mapping) and "value" not in value:
            yield from _leaves(value, f"{prefix}{key}.")
        elif value is not None and not (
            isinstance(value, list | tuple) and any(not isinstance(one, str) for one in value)
        ):
            yield f"{prefix}{key}", value


def figure(metrics: Mapping[str, Any], key: str) -> Interval | None:
    """Return the figure under a dotted key as an interval, or `None` where there is none."""
    value = dict(_leaves(metrics)).get(key)
    return None if value is None or isinstance(value, str | bool | list) else _interval(key, value)


def _interval(key: str, value: Any) -> Interval:
    try:
        return Interval.of(value)
    except (TypeError, ValueError, KeyError):
        raise InputError(f"metric {key!r} must be a number or {{value, low, high}}, got {value!r}") from None


def rows(metrics: Mapping[str, Any]) -> list[Row]:
    """Return all figures of a layer, known ones first and in a fixed order, others under their own key."""
    leaves = {key: value for key, value in _leaves(metrics) if key in KNOWN or not key.startswith(ELSEWHERE)}
    found = []
    for key in [key for key in KNOWN if key in leaves] + [key for key in leaves if key not in KNOWN]:
        label, unit, meaning = KNOWN.get(key, (key, "HU" if key.endswith("_hu") else "", ""))
        value = leaves[key]
        text = (
            str(value)
            if isinstance(value, str | bool)
            else ", ".join(str(one) for one in value) or "none"
            if isinstance(value, list)
            else _interval(key, value).text(unit, 3 if unit == NATS else None)
        )
        found.append(Row(key, label, text, meaning))
    return found


def ladder(metrics: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return headings and one row a rung of the ladder, the nearest first, in its three units; no rows for no ladder."""
    table = []
    for name, what in LADDER.items():
        value = figure(metrics, f"fiber_error.{name}")
        if value is None:
            continue
        others = (figure(metrics, f"ladder.eta.{name}"), figure(metrics, f"ladder.f_error_hu.{name}"))
        texts = ["" if other is None else other.text() for other in (value, *others)]
        table.append((value.value, [what[0].upper() + what[1:], *texts]))
    headings = ["In the place of x", "Distance / s_Phi", "Distance / eta", "Change of f, HU"]
    return headings, [row for _, row in sorted(table, key=lambda pair: pair[0])]


def overview(layers: tuple[LayerFigures, ...]) -> tuple[list[str], list[list[str]]]:
    """Return headings and one row a layer of the figures that decide, for analyses of several layers."""
    columns = {
        "certified.spread_hu": "Certified spread, HU",
        "spread_hu": "Spread, HU",
        "spread_input_hu": "Floor, HU",
        "spread_f_hu": SPREAD_OF_F,
        "fiber_error.samples": "Fiber error",
        "fiber_error.vae": "of the VAE",
        "nll.layer": "NLL, nats/dim",
    }
    present = [key for key in columns if any(figure(layer.metrics, key) for layer in layers)]
    table = []
    for layer in layers:
        values = [figure(layer.metrics, key) for key in present]
        table.append([layer.key] + ["" if value is None else value.text() for value in values])
    return ["Layer", *(columns[key] for key in present)], table
