"""What a report is made from: plain frozen data, filled in by whoever ran the analysis."""

__all__ = ["Change", "LayerFigures", "ReportData", "Section", "jsonable", "plain", "title"]

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from invkit.calibration.record import CalibrationRecord
from invkit.errors import InputError
from invkit.images.window import WINDOWS, Window
from invkit.measures.regressed import RegressionCurve
from invkit.measures.retained import RetainedCurve
from invkit.measures.table import Figure
from invkit.statistics.intervals import Interval
from invkit.statistics.tree import Measured, as_json

Image = NDArray[Any]
# control characters but for line feed and tab, lone surrogates, and marks that change the direction of writing, which can
# make a text look like another one
UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)


def plain(text: object) -> str:
    """Return a text without control characters, lone surrogates and bidirectional marks (now U+FFFD)."""
    return UNPRINTABLE.sub("\ufffd", str(text))


def jsonable(value: Any) -> Any:
    """Return a value as JSON can hold it: intervals as objects, arrays as lists, null for no number."""
    if isinstance(value, Interval | Measured):
        return jsonable(as_json(value))
    if isinstance(value, Mapping):
        return {plain(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [jsonable(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return jsonable(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int):
        return value
    return plain(str(value) if isinstance(value, PurePath) else value)


@dataclass(frozen=True, eq=False)
class Change:
    """An image and another that the layer does not tell from it, `(h, w)`, HU.

    Args:
        group: of changes that are shown together: `hidden`, or `structure`.
        text: what the change is.
        x: the image.
        changed: the other one.
        structure: what of their difference is the structure.
        f_x: f(x).
        f_changed: f of the other one.
    """

    group: str
    text: str
    x: Image
    changed: Image
    structure: Image
    f_x: Image
    f_changed: Image


@dataclass(frozen=True, eq=False)
class LayerFigures:
    """Images and figures of one layer. All images have one shape `(H, W)` and are in HU.

    Args:
        key: the layer as the user named it.
        x: the analysed low-dose image.
        mean: mean over samples.
        std: standard deviation over samples.
        samples: some samples to look at, `(S, H, W)`, at least one.
        note: one line about the layer.
        reconstruction: what the representation that samples are drawn in keeps of x, D(E(x)) of a VAE.
        output: f(x).
        output_std: standard deviation of f over samples.
        swaps: samples with the v of this image and the z of others, `(K, H, W)`.
        reference: the true high-dose y, where samples are of the high-dose domain.
        certified: some samples that were proven to lie in the layer's fiber, `(S, H, W)`, at least one.
        certified_mean: mean over all of them.
        certified_std: standard deviation over all of them; none where too few are certified for a map.
        interior: rows and columns within the frame; none where all of the image is.
        refined: how many samples were certified, of how many that were refined.
        metrics: figures under the keys of `invkit analyze --json`; a value is a number, an `Interval`, or a
            mapping.
        calibration: of the flow behind the samples; none where it was not measured.
        certificates: what is known of each refined sample, rows of `invkit analyze --json`.
        changes: images with something that hides, of any shape.
        conclusion: what can be said of it, as `invkit analyze --json` has it; `None` for a control.
    """

    key: str
    x: Image
    mean: Image
    std: Image
    samples: Image
    note: str = ""
    reconstruction: Image | None = None
    output: Image | None = None
    output_std: Image | None = None
    swaps: Image | None = None
    reference: Image | None = None
    certified: Image | None = None
    certified_mean: Image | None = None
    certified_std: Image | None = None
    interior: tuple[slice, slice] | None = None
    refined: tuple[int, int] = (0, 0)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    calibration: CalibrationRecord | None = None
    certificates: Sequence[Mapping[str, Any]] = ()
    changes: Sequence[Change] = ()
    conclusion: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        shape = np.shape(self.x)
        if len(shape) != 2 or 0 in shape:
            raise InputError(f"layer {self.key}: x must have shape (H, W), got {shape}")
        for name in (
            "x",
            "mean",
            "std",
            "samples",
            "reconstruction",
            "output",
            "output_std",
            "swaps",
            "reference",
            "certified",
            "certified_mean",
            "certified_std",
        ):
            image = getattr(self, name)
            if image is None:
                continue
            stack = name in ("samples", "swaps", "certified")
            found = np.shape(image)
            if found[-2:] != shape or len(found) != (3 if stack else 2) or found[0] == 0:
                wanted = f"(n, {shape[0]}, {shape[1]})" if stack else str(shape)
                raise InputError(f"layer {self.key}: {name} must have shape {wanted}, got {found}")
            if not np.isfinite(image).all():
                raise InputError(f"layer {self.key}: {name} holds values that are not finite")


@dataclass(frozen=True)
class Section:
    """A section that a plugin adds to the report: a title and plain text; blank lines part paragraphs."""

    title: str
    text: str


@dataclass(frozen=True, eq=False)
class ReportData:
    """One analysis, ready to be shown.

    Args:
        model: name of the denoiser.
        layers: one entry a layer, in the order of the forward pass.
        image: which image was analysed.
        samples: how many samples were drawn, N.
        model_description: one line about the denoiser.
        domain: `"low"`, or `"high"` where samples are of the high-dose target domain.
        answer: the few sentences that are read first.
        verdict: sentences, the weightiest first.
        said_of_samples: sentences on samples of a model or of a plugin, which the verdict does not rest on.
        sampler: name of what drew them.
        warnings: what a reader must know before believing the figures.
        provenance: lines on what trained parts were trained on and where they come from.
        sections: added by plugins.
        config: everything that decides the result.
        versions: of invkit and what it rests on.
        hashes: sha256 of inputs and trained parts, by name.
        command: a command line that makes the result again.
        created: when it was made, for people.
        window: display window for images, HU.
        retained: what the layers retain of the code, over depth.
        regression: how well the image is estimated from the layers, over depth.
        others: what is known of the figures of plugins' metrics.
    """

    model: str
    layers: tuple[LayerFigures, ...]
    image: str
    samples: int
    model_description: str = ""
    domain: Literal["low", "high"] = "low"
    answer: tuple[str, ...] = ()
    verdict: tuple[str, ...] = ()
    said_of_samples: tuple[str, ...] = ()
    sampler: str = "vae"
    warnings: tuple[str, ...] = ()
    provenance: tuple[str, ...] = ()
    sections: tuple[Section, ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    hashes: Mapping[str, str] = field(default_factory=dict)
    command: str = ""
    created: str = ""
    window: Window = WINDOWS["abdomen"]
    retained: RetainedCurve | None = None
    regression: RegressionCurve | None = None
    others: tuple[Figure, ...] = ()

    def __post_init__(self) -> None:
        if not self.layers:
            raise InputError("a report needs at least one layer")
        if len({np.shape(layer.x) for layer in self.layers}) != 1:
            raise InputError("all layers of a report must show images of one shape")

    @property
    def samples_title(self) -> str:
        """What the section on samples is called."""
        return "The published model" if self.sampler == "vae" else f"The sampler {self.sampler}"

    @property
    def title(self) -> str:
        """The model and its layers, for people."""
        return title(self.model, [layer.key for layer in self.layers])


def title(model: str, layers: Sequence[str]) -> str:
    """Return the name of a model and its layers, for people."""
    return f"{model}, layer{'s' if len(layers) > 1 else ''} {', '.join(layers)}"
