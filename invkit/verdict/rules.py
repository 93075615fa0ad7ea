"""Words from figures, by fixed rules.

Two figures are called different only beyond both of their intervals (`Interval.above`); where an interval
is unknown the figures themselves are compared.

Spread
    The spread of samples is always called *the spread of the model*. That samples lie in the fiber
    needs a separate proof, which the figures of this module do not give. A spread that does not exceed the
    `input` control's is called *the method's floor*: there z is the whole image, so none of it can come
    from the layer.
Comparison
    Fiber errors are in order where the samples, the VAE's reconstruction and the `input` control's samples
    each lie below what is unrelated to x: a random image, the `const` control's samples, draws from the
    code's prior. The samples have to lie below the nearest found in a bank of other patches as well. Whatever is
    not below gives a warning. The distance of the nearest is an upper bound, so what is not below it is not below
    the true nearest either; what is below it need not be below the true one. The `input` control above the
    VAE's reconstruction is a remark: the flow or its condition loses part of x.
Equal energy
    Samples stay closer to the fiber than their size explains where they lie below both kinds of noise of the
    same energy, white and with the residual's spectrum. Where they do not, only certified samples say
    something about the layer, and the verdict says so. It also says where f(x) plus noise, which needs no
    training, comes as close as the samples.
Random weights
    In a window of the image the same proposals are refined for the layer and for the same layer with redrawn
    weights. Where the layer's certified spread does not exceed what epsilon alone allows there, nothing is
    said about training. Where it does not exceed that of random weights beyond both intervals, what is invisible to
    the layer is not due to training: the architecture alone ignores as much.
Noise
    A fiber error is judged by eta, the distance between two noise realisations of the same anatomy: below a
    tenth of eta it is small, up to eta it is within the noise, above eta the layer distinguishes the samples from
    x.
Likelihood
    NLLs are in order where floor <= input <= layer <= const. Each pair that is not is a warning.
Certificates
    Refined samples are counted: n of m lie within epsilon of z, by Phi itself. What they differ by is proven
    invisible to the layer to within epsilon; beside it stands the spread that epsilon alone would allow in
    the `input` control. It is a lower bound from the samples that were tried, not an estimate of p(x | z). Samples
    outside 1 to 99 % of held-out low-dose images in noise, texture, critic score or code are counted apart.
    Fewer than 8 certified samples give no map.
Baseline
    Proposals that need no training, f(x) plus noise with the spectrum of x - f(x), are refined to the same
    epsilon. Where the certified, plausible spread of the sampler under test does not exceed theirs beyond both
    intervals, it has found nothing that chance could not find, and the verdict says that it does not beat
    the baseline. The spread of both kinds of proposals before refinement is given as well: larger ones leave more.
Distribution
    An image whose VAE error lies above the VAE's 99 % quantile on its own held-out patches is out of
    distribution.
"""

__all__ = [
    "ENOUGH_FOR_A_MAP",
    "REFERENCES",
    "Baseline",
    "Certification",
    "Measures",
    "Verdict",
    "distribution_warning",
    "judge",
    "likelihood_faults",
    "order_faults",
    "too_few",
]

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from invkit.statistics.intervals import Interval, number
from invkit.verdict.measures import REFERENCES, Baseline, Certification, Figure, Measures

KNOW_X = ("samples", "vae", "input")
BELOW = {"random": KNOW_X, "const": KNOW_X, "unconditional": KNOW_X, "nearest": ("samples",)}
ENOUGH_FOR_A_MAP = 8
NLL_ORDER = ("floor", "input", "layer", "const")


@dataclass(frozen=True)
class Verdict:
    """What the figures say: sentences by weight, warnings, and whether the spread is only the floor."""

    sentences: tuple[str, ...]
    warnings: tuple[str, ...]
    floor: bool | None


def distribution_warning(vae_rmse: float, vae_limit: float) -> str | None:
    """Return a warning where the VAE's error on an image (HU) lies above its own 99 % quantile (HU)."""
    if vae_rmse <= vae_limit:
        return None
    return (
        "The image lies outside the distribution the VAE was trained on: its reconstruction error is "
        f"{number(vae_rmse)} HU, above the 99 % quantile of {number(vae_limit)} HU on held-out patches. "
        "The model's results for it are not reliable."
    )


def order_faults(fiber_error: Mapping[str, Figure]) -> tuple[str, ...]:
    """Return one sentence for each fiber error that is not below one it must be below."""
    errors = {name: Interval.of(value) for name, value in fiber_error.items()}
    faults = []
    for upper, names in BELOW.items():
        for name in names:
            if name not in errors or upper not in errors or errors[upper].above(errors[name]):
                continue
            faults.append(
                f"For this layer, {REFERENCES[name]} ({errors[name].text()}) cannot be shown to be closer to x "
                f"than {REFERENCES[upper]} ({errors[upper].text()})."
            )
    return tuple(faults)


def likelihood_faults(nll: Mapping[str, Figure]) -> tuple[str, ...]:
    """Return one sentence for each neighbouring pair of NLLs that theory orders the other way."""
    known = [name for name in NLL_ORDER if name in nll]
    faults = []
    for smaller, larger in pairwise(known):
        a, b = Interval.of(nll[smaller]), Interval.of(nll[larger])
        if a.above(b):
            faults.append(
                f"The likelihoods are out of order: the NLL of {smaller} ({a.text()}) lies above that of "
                f"{larger} ({b.text()} nats per dimension). A model has not been trained to convergence."
            )
    return tuple(faults)


def _spread(measures: Measures) -> tuple[list[str], bool | None]:
    spread = Interval.of(measures.spread)
    if measures.proposals:
        return [
            f"Proposals for {measures.layer} vary by {spread.text('HU')}: they are {measures.proposals}, need no "
            "training, and say nothing about the layer until they are refined."
        ], None
    sentences = [
        f"Samples for {measures.layer} vary by {spread.text('HU')}: this is the spread of the model."
    ]
    if measures.control == "input":
        sentences.append(
            "This is the `input` control: z is the whole image, so all of its spread is the method's floor."
        )
        return sentences, True
    if measures.control == "const":
        sentences.append(
            "This is the `const` control: z says nothing about the image, so its spread is the ceiling."
        )
        return sentences, False
    if measures.spread_input is None:
        sentences.append(
            "Without the `input` control, it is unknown how much of it is due to the method itself."
        )
        return sentences, None
    floor = Interval.of(measures.spread_input)
    if spread.above(floor):
        sentences.append(
            f"It exceeds the method's floor, the `input` control's {floor.text('HU')}, beyond both intervals."
        )
        return sentences, False
    sentences.append(
        f"It does not exceed the `input` control's {floor.text('HU')} beyond the intervals: it is the "
        "method's floor and says nothing about the layer."
    )
    return sentences, True


def _fiber(measures: Measures) -> list[str]:
    errors = {name: Interval.of(value) for name, value in measures.fiber_error.items()}
    if "samples" not in errors:
        return []
    samples = errors["samples"]
    text = f"A sample's activation differs from that of x by {samples.text()}, where two different patches differ by 1"
    if "vae" in errors:
        text += f" and the VAE's own reconstruction by {errors['vae'].text()}"
    sentences = [text + "."]
    if measures.domain == "high":
        sentences.append(
            "The samples are high-dose images; they are not meant to have the activation of the low-dose x."
        )
    elif measures.noise_distance is not None:
        eta = Interval.of(measures.noise_distance)
        ratio = number(samples.value / eta.value) if eta.value else "infinitely many"
        if samples.value > eta.value:
            words = "the layer distinguishes most samples from x"
        elif samples.value > eta.value / 10:
            words = "within the noise, but a different noise realisation alone would pass as well"
        else:
            words = "small compared with the noise"
        sentences.append(
            f"That is {ratio} times the distance between two scans of the same anatomy at this dose: {words}."
        )
    if "vae" in errors and "input" in errors and errors["input"].above(errors["vae"]):
        sentences.append(
            f"Even given the whole image, samples differ by {errors['input'].text()}, more than the VAE's "
            "reconstruction: the flow or its conditioning loses part of x."
        )
    return sentences


def _beside_noise(measures: Measures) -> list[str]:
    """Compare the samples with noise of their energy, with f(x) plus noise, and with other patches."""
    errors = {name: Interval.of(value) for name, value in measures.fiber_error.items()}
    if "samples" not in errors or measures.domain == "high" or measures.control is not None:
        return []
    samples, sentences = errors["samples"], []
    if {"noise_white", "noise_residual"} <= errors.keys():
        white, coloured = errors["noise_white"], errors["noise_residual"]
        text = (
            f"Noise of the same energy as the samples' differences from x changes the activation by {white.text()} if it "
            f"is white, and by {coloured.text()} if it has the spectrum of what the VAE loses: the samples "
        )
        if white.above(samples) and coloured.above(samples):
            sentences.append(text + "stay closer to the fiber than their size explains.")
        else:
            sentences.append(
                text
                + "stay no closer to the fiber than noise of the same size. Only certified samples say something about "
                "the layer."
            )
    if "training_free" in errors and not errors["training_free"].above(samples):
        sentences.append(
            f"f(x) plus noise, which needs no training, comes as close to the fiber ({errors['training_free'].text()})."
        )
    if "nearest" in errors and measures.bank:
        sentences.append(
            f"The nearest found among {measures.bank:,} patches of other patients differs by {errors['nearest'].text()}."
        )
    return sentences


def _random(measures: Measures) -> list[str]:
    """Say what random weights leave of the certified spread."""
    found = measures.random_weights
    if found is None:
        return []
    random, spread = Interval.of(found.random), Interval.of(found.trained)
    text = (
        f"With randomised weights in the same network, certified samples vary by {random.text('HU')} in a window of the image, "
        f"and with the trained weights by {spread.text('HU')} there: "
    )
    if not spread.above(Interval(found.allowed)):
        return [
            f"{text}not clearly more than the {number(found.allowed)} HU that the tolerance allows, so nothing can be said "
            "about what training made the layer ignore."
        ]
    if spread.above(random):
        return [text + "training made the layer ignore more than its architecture alone does."]
    return [text + "what the layer ignores is not more than what its architecture ignores without training."]


def _output(measures: Measures) -> list[str]:
    if measures.spread_f is None:
        return []
    after, before = Interval.of(measures.spread_f), Interval.of(measures.spread)
    share = (
        f", {100 * after.value / before.value:.0f} % of their spread before it" if before.value > 0 else ""
    )
    return [f"After denoising, the same samples still vary by {after.text('HU')}{share}."]


def _likelihood(nll: Mapping[str, Figure]) -> list[str]:
    if not {"layer", "const", "floor"} <= nll.keys():
        return []
    layer, const, floor = (Interval.of(nll[name]).value for name in ("layer", "const", "floor"))
    if const <= floor:
        return []
    share = (const - layer) / (const - floor)
    return [
        f"Knowing z lowers the NLL of the code by {number(const - layer)} of at most {number(const - floor)} nats "
        f"per dimension: according to this model, the layer retains {_nearly_all(share)} % of what the code holds."
    ]


def _nearly_all(share: float) -> str:
    """Return a share in per cent, with as many decimals as distinguish it from 100."""
    missing = 100 * (1 - share)
    decimals = min(4, -math.floor(math.log10(missing))) if 0 < missing < 1 else 0
    return f"{100 * share:.{decimals}f}"


def _certified(measures: Measures) -> list[str]:
    found = measures.certification
    if found is None:
        return []
    first = (
        f"{found.count} of {found.refined} refined samples are certified: their activations differ from that of x by "
        f"at most {number(found.epsilon)}."
    )
    if found.retreated:
        first += (
            f" {found.retreated} of them could only be reached by starting closer to x than proposed, because no gradient leads "
            "back from farther away: the spread below is therefore smaller than the proposals could have shown."
        )
    beside = _beside(found, "The sampler under test" if measures.proposals else "The trained model")
    if found.spread is None:
        return [first, *beside]
    spread = Interval.of(found.spread)
    if not spread.above(Interval(found.allowed)):
        second = (
            f"They vary by {spread.text('HU')}, not clearly more than the {number(found.allowed)} HU that this tolerance allows: "
            "nothing is proven invisible to the layer."
        )
    else:
        second = (
            f"They vary by {spread.text('HU')}, which the layer cannot see; this tolerance alone would allow "
            f"{number(found.allowed)} HU."
        )
    if found.f_error is not None:
        second += f" The denoiser's output changes by {Interval.of(found.f_error).text('HU')}."
    return [first, second, *_plausible(found), *beside]


def too_few(found: Certification, of: str = "") -> tuple[str, str]:
    """Return why there are too few certified samples for a map, and how many certified ones it takes.

    Args:
        found: with fewer certified samples than that.
        of: words that follow the samples, such as `" of layer 3"`.
    """
    if found.count < found.refined:
        return (
            f"only {found.count} of {found.refined} refined samples{of} are certified",
            str(ENOUGH_FOR_A_MAP),
        )
    refined = f"1 sample{of} was" if found.refined == 1 else f"{found.refined} samples{of} were"
    return f"only {refined} refined", f"{ENOUGH_FOR_A_MAP} certified ones"


def _plausible(found: Certification) -> list[str]:
    """Say how many certified samples are unlike held-out low-dose images, which those are, and in what."""
    if found.outside is None or not found.traits:
        return []
    images = f"of held-out low-dose images ({found.real})"
    *others, last = found.traits
    word = "or" if found.outside else "and"
    traits = f"{', '.join(others)} {word} {last}" if others else last
    if found.outside == 0:
        return [f"All of them lie within the 1 to 99 % range {images} in {traits}."]
    return [
        f"{found.outside} of them lie outside the 1 to 99 % range {images} in {traits}: "
        "they exist, but are not plausible as scans of that kind."
    ]


def _beside(found: Certification, drawn_by: str) -> list[str]:
    """Say how the sampler compares with the baseline."""
    free = found.baseline
    if free is None:
        return []
    # What they vary by before refinement stands beside it: proposals that vary more leave more.
    theirs = ours = ""
    if free.proposed is not None:
        free_before, own_before = (Interval.of(spread).text("HU") for spread in free.proposed)
        theirs, ours = f" that varies by {free_before}", f", from proposals that vary by {own_before}"
    text = (
        f"Of {free.refined} training-free proposals (f(x) plus noise{theirs}), {free.count} are certified at this "
        f"tolerance, {free.plausible} of them plausible"
    )
    if free.spread is not None:
        text += f"; these vary by {Interval.of(free.spread).text('HU')}"
    own = (
        "no two plausible ones"
        if free.own is None
        else f"plausible ones that vary by {Interval.of(free.own).text('HU')}"
    )
    text += f". {drawn_by} has {own}{ours}"
    return [f"{text}: it finds more." if free.beaten else f"{text}: it does not beat this baseline."]


def judge(measures: Measures) -> Verdict:
    """Return what the figures of one layer say, by the rules at the top of this module."""
    sentences, floor = _spread(measures)
    sentences += (
        _certified(measures)
        + _random(measures)
        + _fiber(measures)
        + _beside_noise(measures)
        + _output(measures)
        + _likelihood(measures.nll)
    )
    warnings = []
    if measures.vae_rmse is not None and measures.vae_limit is not None:
        outside = distribution_warning(measures.vae_rmse, measures.vae_limit)
        warnings += [outside] if outside else []
    if measures.control is None and measures.domain == "low":
        warnings += order_faults(measures.fiber_error)
    warnings += likelihood_faults(measures.nll)
    found = measures.certification
    if found is not None and found.count < ENOUGH_FOR_A_MAP:
        why, needed = too_few(found, f" of {measures.layer}")
        warnings.append(f"{why[0].upper()}{why[1:]}; fewer than {needed} give no map.")
    return Verdict(tuple(sentences), tuple(warnings), floor)
