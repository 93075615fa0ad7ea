"""The figures of one layer that a verdict is passed on, and what samples are compared with."""

__all__ = ["REFERENCES", "Baseline", "Certification", "Figure", "Measures", "RandomWeights"]

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from invkit.statistics.intervals import Interval

Figure = Interval | float

REFERENCES = {
    "vae": "the VAE's reconstruction of x",
    "input": "samples of the `input` control",
    "samples": "the samples",
    "training_free": "f(x) plus noise with the spectrum of x - f(x)",
    "noise_residual": "x plus noise of the samples' energy and the VAE residual's spectrum",
    "noise_white": "x plus white noise of the samples' energy",
    "nearest": "the nearest found among many other patches",
    "unconditional": "images drawn from the code's prior",
    "const": "samples of the `const` control",
    "random": "a random other image",
}


@dataclass(frozen=True)
class Baseline:
    """The results of refining training-free proposals, next to those of the sampler under test; plausible ones only, if judged.

    Args:
        count: certified ones, of the image with the fewest.
        refined: proposals that were tried, for each image.
        spread: of the certified, plausible ones, HU; `None` for fewer than two.
        plausible: how many of the certified ones are plausible.
        own: certified, plausible spread of the sampler under test, HU; `None` for fewer than two such samples.
        proposed: spread of the proposals before refinement, HU, and of those of the sampler under test; `None` where unknown.
        certified: spread of the certified ones, plausible or not, HU; `None` for fewer than two.
        fiber_error_before: of the proposals, in units of s_Phi.
        moved: by refinement, HU.
    """

    count: int
    refined: int
    spread: Figure | None = None
    plausible: int = 0
    own: Figure | None = None
    proposed: tuple[Figure, Figure] | None = None
    certified: Figure | None = None
    fiber_error_before: Figure | None = None
    moved: Figure | None = None

    def figures(self) -> dict[str, Any]:
        """Return the figures by their keys."""
        return {
            "count": self.count,
            "refined": self.refined,
            "fiber_error_before": self.fiber_error_before,
            "moved_hu": self.moved,
            "plausible": self.plausible,
            "proposal_spread_hu": None if self.proposed is None else self.proposed[0],
            "spread_hu": self.certified,
            "plausible_spread_hu": self.spread,
            "beaten": self.beaten,
        }

    @property
    def beaten(self) -> bool:
        """Whether the sampler's spread exceeds the baseline's beyond both intervals."""
        if self.own is None or self.spread is None:
            return self.own is not None
        return Interval.of(self.own).above(Interval.of(self.spread))


@dataclass(frozen=True)
class Certification:
    """The results of refinement onto the fiber.

    Args:
        count: certified samples, of the image with the fewest.
        refined: samples that were tried, for each image.
        epsilon: in the unit of the fiber errors.
        allowed: spread that epsilon alone leaves in the `input` control at most, HU.
        spread: of the certified samples, HU; `None` for fewer than two.
        f_error: distance of f of a certified sample from f of x, HU.
        baseline: what training-free proposals gave at the same epsilon; `None` where none were refined.
        outside: certified samples that are unlike held-out images, of the image with the most; `None` where that is not known.
        retreated: certified samples whose refinement had to begin nearer to x than they were proposed, of the image with
            the most.
        real: which images `outside` compares with, for people.
        traits: in what it compares them.
        proposed: spread of what the samples were refined from, HU; `None` for fewer than two.
        fiber_error_before: of that, in units of s_Phi.
        fiber_error: of all refined samples, in units of s_Phi.
        moved: by refinement, HU.
        curve: what other tolerances leave, one row per tolerance, the largest first.
        plausible: where the certified samples stand among held-out images; `None` where that is not known.
    """

    count: int
    refined: int
    epsilon: float
    allowed: float
    spread: Figure | None = None
    f_error: Figure | None = None
    baseline: Baseline | None = None
    outside: int | None = None
    retreated: int = 0
    real: str = ""
    traits: tuple[str, ...] = ()
    proposed: Figure | None = None
    fiber_error_before: Figure | None = None
    fiber_error: Figure | None = None
    moved: Figure | None = None
    curve: tuple[Mapping[str, Any], ...] = ()
    plausible: Mapping[str, Any] | None = None

    def figures(self) -> dict[str, Any]:
        """Return the figures by their keys, without what could not be measured."""
        found: dict[str, Any] = {
            "count": self.count,
            "refined": self.refined,
            "epsilon": self.epsilon,
            "spread_epsilon_hu": self.allowed,
            "proposal_spread_hu": self.proposed,
            "retreated": self.retreated,
            "fiber_error_before": self.fiber_error_before,
            "fiber_error": self.fiber_error,
            "moved_hu": self.moved,
            "curve": self.curve,
        }
        if self.spread is not None:
            found |= {"spread_hu": self.spread, "f_error_hu": self.f_error}
        if self.plausible is not None:
            found["plausible"] = self.plausible
        if self.baseline is not None:
            found |= {"plausible_spread_hu": self.baseline.own, "training_free": self.baseline}
        return found


@dataclass(frozen=True)
class RandomWeights:
    """The layer with redrawn weights, compared with the trained one, in a window of the image.

    Args:
        random: spread of its certified samples, HU.
        trained: spread of those of the trained layer, refined from the same proposals in the same window, HU.
        allowed: the spread that the trained layer's epsilon alone leaves there at most, HU.
    """

    random: Figure
    trained: Figure
    allowed: float


@dataclass(frozen=True)
class Measures:
    """The figures of one layer that a verdict needs; what is `None` or missing is not judged.

    Args:
        layer: what is judged, for people, e.g. `"layer 3 of yang2018"`.
        spread: spread of the samples, HU.
        fiber_error: relative fiber errors under the keys of `REFERENCES`.
        spread_input: spread of the `input` control's samples, HU.
        spread_f: spread of f of the samples, HU.
        noise_distance: eta / s_Phi, in the unit of the fiber errors.
        vae_rmse: error of the VAE's reconstruction of this image, HU.
        vae_limit: the VAE's 99 % quantile of that error on held-out patches, HU.
        nll: negative log-likelihoods `layer`, `input`, `const` and `floor`, nats per dimension.
        control: `"input"` or `"const"` where the layer is itself a control.
        domain: `"low"`, or `"high"` where samples are high-dose images, which are not meant to lie in the
            fiber.
        certification: what refinement found.
        proposals: what the samples are before refinement, a noun phrase, where no model drew them; empty where one did.
        bank: patches that the nearest was searched among.
        random_weights: what refinement of the same proposals in a window of the image came to with them; `None` where fewer
            than two are certified.
    """

    layer: str
    spread: Figure
    fiber_error: Mapping[str, Figure] = field(default_factory=dict)
    spread_input: Figure | None = None
    spread_f: Figure | None = None
    noise_distance: Figure | None = None
    vae_rmse: float | None = None
    vae_limit: float | None = None
    nll: Mapping[str, Figure] = field(default_factory=dict)
    control: Literal["input", "const"] | None = None
    domain: Literal["low", "high"] = "low"
    certification: Certification | None = None
    proposals: str = ""
    bank: int = 0
    random_weights: RandomWeights | None = None
