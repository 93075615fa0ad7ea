"""The figures of one layer that a verdict is passed on, and what samples are compared with."""

__all__ = ["REFERENCES", "Certification", "Figure", "Measures", "RandomWeights"]

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
class Certification:
    """Images with certificates: draws of the posterior, or what a sampler proposed, refined.

    Args:
        count: certified ones, of the image with the fewest.
        refined: how many were drawn or refined, for each image.
        tolerance: that a certificate keeps, in repeat scans.
        spread: of the certified ones within the frame, HU; `None` for fewer than two, or where the interior is too small.
        f_error: distance of f of a certified one from f(x), HU.
        distance: of all of them from x, in repeat scans.
        moved: how far draws lie from x, or refined images from what was proposed, HU.
        proposed: spread of what was refined, HU; `None` for draws.
        distance_before: of what was refined, in repeat scans; `None` for draws.
        retreated: refined ones that had to begin nearer to x than they were proposed, of the image with the most.
        rejected: attempts at draws that failed in a window and were drawn again, over all images.
        changed: by how much that changes the draws' spread, as a part of it.
    """

    count: int
    refined: int
    tolerance: float
    spread: Figure | None = None
    f_error: Figure | None = None
    distance: Figure | None = None
    moved: Figure | None = None
    proposed: Figure | None = None
    distance_before: Figure | None = None
    retreated: int = 0
    rejected: int = 0
    changed: float = 0.0

    def figures(self) -> dict[str, Any]:
        """Return the figures by their keys, without what could not be measured."""
        found: dict[str, Any] = {
            "count": self.count,
            "refined": self.refined,
            "tolerance": self.tolerance,
            "distance": self.distance,
            "moved_hu": self.moved,
            "spread_hu": self.spread,
            "f_error_hu": self.f_error,
        }
        if self.distance_before is None:
            return {**found, "rejected": self.rejected, "rejection_changes": self.changed}
        return {
            **found,
            "proposal_spread_hu": self.proposed,
            "distance_before": self.distance_before,
            "retreated": self.retreated,
        }


@dataclass(frozen=True)
class RandomWeights:
    """The layer with redrawn weights beside that with its own, in a window of the image, at one tolerance.

    Args:
        random: noise that it hides, HU, with the interval in which another redraw lies.
        own: with the network's own weights, HU.
        image: that of the image itself, HU.
        trained: whether anything says that the network was trained.
    """

    random: Figure
    own: Figure
    image: Figure
    trained: bool = False

    def figures(self) -> dict[str, Any]:
        """Return the figures by their keys."""
        return {
            "hidden_hu": self.random,
            "own_hidden_hu": self.own,
            "identity_hidden_hu": self.image,
        }


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
        vae_posterior: spread of the VAE's own posterior of the image, without any denoiser, HU.
        rate: nats that the codes of the image hold, and that it takes to hold its noise to within 2 HU.
        nll: negative log-likelihoods `layer`, `input`, `const` and `floor`, nats per dimension.
        control: `"input"` or `"const"` where the layer is itself a control.
        domain: `"low"`, or `"high"` where samples are high-dose images, which are not meant to lie in the
            fiber.
        certification: of the posterior's draws; `None` where nothing was drawn.
        witnesses: of the sampler's own images, refined; `None` where there are none.
        proposals: what a sampler's images are before refinement, a noun phrase, where no model drew them; empty where one did.
        posterior: whether what was sampled is the posterior itself.
        bank: patches that the nearest was searched among.
        branch: whether something goes round the layer; what f makes of certified images is then said at the start.
        random_weights: what the layer hides with them; `None` where that could not be measured.
    """

    layer: str
    spread: Figure
    fiber_error: Mapping[str, Figure] = field(default_factory=dict)
    spread_input: Figure | None = None
    spread_f: Figure | None = None
    noise_distance: Figure | None = None
    vae_rmse: float | None = None
    vae_limit: float | None = None
    vae_posterior: float | None = None
    rate: tuple[float, float] | None = None
    nll: Mapping[str, Figure] = field(default_factory=dict)
    control: Literal["input", "const"] | None = None
    domain: Literal["low", "high"] = "low"
    certification: Certification | None = None
    witnesses: Certification | None = None
    proposals: str = ""
    posterior: bool = False
    bank: int = 0
    random_weights: RandomWeights | None = None
    branch: bool = False
