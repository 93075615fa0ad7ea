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
    same energy, white and with the residual's spectrum. It is also said where f(x) plus noise, which needs no
    training, comes as close as the samples.
Random weights
    In a window of the image it is measured how much noise hides from the layer, from the same layer with weights that were redrawn
    several times, and from the image itself, at one tolerance in repeat scans of each. Where the layer hides no more than the
    image does, within 1.3 times, there is nothing that its weights could be the reason of. Where it does not exceed the interval
    in which another redraw lies, the architecture alone hides as much. Training is named only where the weights say that there
    was one.
Noise
    A fiber error is judged by eta, the distance between two noise realisations of the same anatomy: below a
    tenth of eta it is small, up to eta it is within the noise, above eta the layer distinguishes the samples from
    x.
Likelihood
    NLLs are in order where floor <= input <= layer <= const. Each pair that is not is a warning.
Certificates
    Draws of the posterior are counted: n of m change no window of z by more than the tolerance, by Phi itself. Those that failed in
    a window were drawn again, and where that changes the spread by more than 2 % it is a warning. Fewer than 8 certified draws
    give no map. Where samples come from a model or a plugin, they are refined, and what is certified of them are witnesses:
    their spread is that of their proposals, and is not compared with anything.
Distribution
    An image whose VAE error lies above the VAE's 99 % quantile on its own held-out patches is out of
    distribution.
"""

__all__ = [
    "ENOUGH_FOR_A_MAP",
    "REFERENCES",
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
from invkit.verdict.measures import REFERENCES, Certification, Figure, Measures
from invkit.verdict.structures import HIDES

KNOW_X = ("samples", "vae", "input")
BELOW = {"random": KNOW_X, "const": KNOW_X, "unconditional": KNOW_X, "nearest": ("samples",)}
ENOUGH_FOR_A_MAP = 8
BEYOND = 1.1  # times the spread of the VAE's own posterior, up to which a model's is called that
NLL_ORDER = ("floor", "input", "layer", "const")
REJECTION = 0.02  # of the spread, that it may be changed by what is rejected


@dataclass(frozen=True)
class Verdict:
    """What the figures say: sentences by weight, warnings, and whether the samples' spread is only the floor.

    What is said of samples of a model or of a plugin stands apart, for the answer does not rest on it.
    """

    sentences: tuple[str, ...]
    warnings: tuple[str, ...]
    floor: bool | None
    samples: tuple[str, ...] = ()


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
    if measures.posterior:
        return [], None
    if measures.proposals:
        return [
            f"Proposals for {measures.layer} vary by {spread.text('HU')}: they are {measures.proposals}, need no training, "
            "and say nothing about the layer until they are refined."
        ], None
    sentences = [
        f"Samples of the published model for {measures.layer} vary by {spread.text('HU')}: this is the spread of the model."
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


def _of_the_code(measures: Measures) -> list[str]:
    """Say what the VAE's own posterior varies by, and what its codes hold."""
    sentences: list[str] = []
    spread = Interval.of(measures.spread)
    if measures.vae_posterior is not None and measures.control is None:
        share = "nothing beyond it" if spread.value <= BEYOND * measures.vae_posterior else "more than that"
        sentences.append(
            f"The VAE's own posterior of x, without any denoiser, varies by {number(measures.vae_posterior)} HU: "
            f"the flow adds {share}."
        )
    if measures.rate is not None and measures.control is None:
        held, needed = measures.rate
        sentences.append(
            f"Its codes hold {held:,.0f} nats; to hold the noise of x to within 2 HU takes {needed:,.0f}."
        )
    return sentences


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
            sentences.append(text + "stay no closer to the fiber than noise of the same size.")
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
    """Say what random weights hide."""
    found = measures.random_weights
    if found is None:
        return []
    random, own, image = (Interval.of(value) for value in (found.random, found.own, found.image))
    name = "the trained ones" if found.trained else "its own"
    text = (
        f"With randomised weights, {random.text('HU')} of noise hides from the layer in a window of the image, with {name} "
        f"{own.text('HU')}"
    )
    if own.value <= HIDES * image.value:
        return [f"{text}, no more than in the image itself ({image.text('HU')})."]
    if own.above(random):
        cause = "training" if found.trained else "these weights"
        return [f"{text}: {cause} made the layer hide more than its architecture alone does."]
    less = "without training" if found.trained else "with other weights"
    return [f"{text}: what it hides is not more than what its architecture hides {less}."]


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
    text = (
        f"{found.count} of {found.refined} images that were drawn are certified: no window of their activation differs from that "
        f"of x by more than {number(found.tolerance)} repeat scans"
    )
    if found.rejected:
        what = "attempt" if found.rejected == 1 else "attempts"
        text += f" ({found.rejected} {what} did in one, drawn again)"
    if found.f_error is not None and not measures.branch:
        text += f"; f of them differs from f(x) by {Interval.of(found.f_error).text('HU')}"
    return [f"{text}."]


def _witnesses(measures: Measures) -> list[str]:
    """Say what became of a sampler's own images."""
    found = measures.witnesses
    if found is None:
        return []
    text = f"{found.count} of {found.refined} of its samples are certified at the same tolerance once they are refined"
    if found.spread is not None and found.proposed is not None:
        text += (
            f": they vary by {Interval.of(found.spread).text('HU')}, from {Interval.of(found.proposed).text('HU')} before. "
            "These are witnesses that such images exist; their spread is that of what was proposed, and says nothing of "
            "the layer"
        )
    said = [f"{text}."]
    if found.retreated:
        said.append(
            f"{found.retreated} of them could only be reached by starting closer to x than proposed, because no gradient leads "
            "back from farther away."
        )
    return said


def too_few(found: Certification, of: str = "") -> tuple[str, str]:
    """Return why there are too few certified samples for a map, and how many certified ones it takes.

    Args:
        found: with fewer certified samples than that.
        of: words that follow the samples, such as `" of layer 3"`.
    """
    if found.count < found.refined:
        return (
            f"only {found.count} of {found.refined} images{of} that were drawn are certified",
            str(ENOUGH_FOR_A_MAP),
        )
    drawn = f"1 image{of} was" if found.refined == 1 else f"{found.refined} images{of} were"
    return f"only {drawn} drawn", f"{ENOUGH_FOR_A_MAP} certified ones"


def judge(measures: Measures) -> Verdict:
    """Return what the figures of one layer say, by the rules at the top of this module."""
    said, floor = _spread(measures)
    model = (
        []
        if measures.posterior
        else _witnesses(measures) + _fiber(measures) + _beside_noise(measures) + _output(measures)
    )
    sentences = _certified(measures) + _random(measures)
    samples = said + _of_the_code(measures) + model + _likelihood(measures.nll)
    warnings = []
    if measures.vae_rmse is not None and measures.vae_limit is not None:
        outside = distribution_warning(measures.vae_rmse, measures.vae_limit)
        warnings += [outside] if outside else []
    if measures.control is None and measures.domain == "low" and not measures.posterior:
        warnings += order_faults(measures.fiber_error)
    warnings += likelihood_faults(measures.nll)
    found = measures.certification
    if found is not None and found.count < ENOUGH_FOR_A_MAP:
        why, needed = too_few(found, f" of {measures.layer}")
        warnings.append(f"{why[0].upper()}{why[1:]}; fewer than {needed} give no map.")
    if found is not None and abs(found.changed) > REJECTION:
        warnings.append(
            f"Draws that failed in a window were drawn again, which changes their spread by {100 * found.changed:+.1f} %: "
            "the noise that is hidden is stated without that."
        )
    return Verdict(tuple(sentences), tuple(warnings), floor, tuple(samples))
