"""What an analysis gives: images and figures in HU, ready to look at and to save."""

__all__ = ["LayerResult", "Outcome"]

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from invkit import artifacts
from invkit.analysis.subject import Subject
from invkit.calibration.record import CalibrationRecord
from invkit.certificates.certify import Certified
from invkit.data.patches import Domain
from invkit.measures.regressed import RegressionCurve
from invkit.measures.retained import RetainedCurve
from invkit.measures.structures.shown import ChangedImage
from invkit.sampling.draw import Draws
from invkit.sampling.stack import StackedImages
from invkit.statistics.tree import as_json
from invkit.verdict.conclusion import Conclusion, over_layers
from invkit.verdict.rules import Verdict


@dataclass(frozen=True)
class LayerResult:
    """One layer's samples and figures.

    Args:
        layer: as the user named it.
        note: what stands there.
        draws: for each image, its N draws.
        swap: D(t^-1(v | z)) with the v of this image and the z of its partner (the next image, or a
            held-out one where there is only one image), `(B, 1, H, W)`, HU; `None` where samples have no v.
        figures: by their keys, as measures give them: intervals, numbers, texts and groups of them.
        verdict: what they say.
        trained: whether the layer's cINN was `"found"`, bundled or cached, or `"trained"` just now; or `"not needed"`.
        provenance: of the layer's cINN.
        sha256: of the layer's cINN, its file.
        split: what the split's check found.
        certified: for each image, draws of the posterior with their certificates; empty where nothing was drawn.
        witnesses: for each image, what became of the sampler's own images by refinement; empty where there are none.
        unrefined: why nothing was drawn, or nothing.
        calibration: of the flow, as it was when its training ended; `None` where it was not measured.
        conclusion: the verdict in one sentence; `None` for a control.
        kept: what the representation that samples are drawn in keeps of the images, `(B, 1, H, W)`, HU; `None` where there is
            none of x.
        changes: of the first image or a part of it: with the disc that hides most, and without a marked structure.
    """

    layer: str
    note: str
    draws: tuple[Draws, ...]
    swap: Tensor | None
    figures: dict[str, Any]
    verdict: Verdict
    trained: str
    provenance: dict[str, Any]
    sha256: str
    split: dict[str, Any]
    certified: tuple[Certified, ...] = ()
    witnesses: tuple[Certified, ...] = ()
    unrefined: str = ""
    calibration: CalibrationRecord | None = None
    conclusion: Conclusion | None = None
    kept: Tensor | None = None
    changes: tuple[ChangedImage, ...] = ()

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """The figures as JSON values, under the names of the `--json` schema."""
        found: dict[str, Any] = as_json(self.figures)
        return found

    @property
    def raw(self) -> Tensor:
        """The N draws as the model gave them, `(N, B, 1, H, W)`, HU."""
        if len(self.draws) == 1:
            # No copy: where they lie in a file, they stay there.
            return self.draws[0].samples[:, None]
        return torch.stack([draws.samples for draws in self.draws], dim=1)

    @property
    def samples(self) -> Tensor:
        """The certified samples, as many as every image has, `(n, B, 1, H, W)`, HU; `raw` where nothing was refined."""
        if not self.certified:
            return self.raw
        count = min(len(one.samples) for one in self.certified)
        return torch.stack([one.samples[:count] for one in self.certified], dim=1)

    @property
    def certificates(self) -> tuple[dict[str, Any], ...]:
        """One row for each of `samples` and each image; empty where nothing was refined."""
        rows = [
            [row for row in one.rows(image) if row["certified"]] for image, one in enumerate(self.certified)
        ]
        count = min((len(found) for found in rows), default=0)
        return tuple(row for found in rows for row in found[:count])

    @property
    def mapped(self) -> bool:
        """Whether every image has enough certified samples, 8, for a map of their deviation."""
        return bool(self.certified) and all(one.enough for one in self.certified)

    @property
    def mean(self) -> Tensor | None:
        """Mean of `samples`, `(B, 1, H, W)`, HU; `None` where fewer than 8 of the refined are certified."""
        if self.mapped:
            return self.samples.double().mean(0).float()
        return None if self.certified else self.raw_mean

    @property
    def std(self) -> Tensor | None:
        """Standard deviation of `samples`, `(B, 1, H, W)`, HU; `None` where `mean` is."""
        if self.mapped:
            return self.samples.double().std(0).float()
        return None if self.certified else self.raw_std

    @property
    def raw_mean(self) -> Tensor:
        """Mean of `raw`, `(B, 1, H, W)`, HU."""
        return torch.stack([draws.mean for draws in self.draws])

    @property
    def raw_std(self) -> Tensor:
        """Standard deviation of `raw`, `(B, 1, H, W)`, HU."""
        return torch.stack([draws.std for draws in self.draws])


@dataclass(frozen=True)
class Outcome:
    """What one or more layers of one denoiser gave on the same images.

    The images and figures of the first layer are available directly.

    Args:
        model: name of the denoiser.
        subject: the images.
        domain: `"low"` or `"high"`.
        layers: one result for each requested layer.
        f_x: f(x), `(B, 1, H, W)`, HU.
        vae: D(E(x)), `(B, 1, H, W)`, HU; `None` where no VAE was needed.
        provenance: what decided the result: seeds, versions, hashes.
        warnings: what the reader has to know.
        retained: what each layer retains of the code, from the image to the output.
        regression: how well the image is estimated from each layer, in the same order.
        sampler: name of the sampler.
    """

    model: str
    subject: Subject
    domain: Domain
    layers: tuple[LayerResult, ...]
    f_x: Tensor
    vae: Tensor | None
    provenance: dict[str, Any]
    warnings: tuple[str, ...] = field(default=())
    retained: RetainedCurve | None = None
    regression: RegressionCurve | None = None
    sampler: str = "vae"

    @property
    def all_warnings(self) -> tuple[str, ...]:
        """What the reader has to know, of the analysis and of each layer, each said once."""
        said = [*self.warnings, *(warning for layer in self.layers for warning in layer.verdict.warnings)]
        return tuple(dict.fromkeys(said))

    @property
    def answer(self) -> tuple[str, ...]:
        """The answer in a few sentences: of the layer, or of all layers together."""
        if len(self.layers) == 1:
            only = self.layers[0]
            return only.verdict.sentences if only.conclusion is None else only.conclusion.answer
        concluded = {one.layer: one.conclusion for one in self.layers if one.conclusion is not None}
        return (over_layers(concluded),) if concluded else ()

    @property
    def x(self) -> Tensor:
        """The low-dose images, `(B, 1, H, W)`, HU."""
        return self.subject.x

    @property
    def layer(self) -> str:
        """Name of the first layer."""
        return self.layers[0].layer

    @property
    def samples(self) -> Tensor:
        """The first layer's certified samples, `(n, B, 1, H, W)`, HU; `raw` where nothing was refined."""
        return self.layers[0].samples

    @property
    def certificates(self) -> tuple[dict[str, Any], ...]:
        """One row for each of the first layer's certified samples, as JSON values."""
        return self.layers[0].certificates

    @property
    def raw(self) -> Tensor:
        """The first layer's N draws as the model gave them, `(N, B, 1, H, W)`, HU."""
        return self.layers[0].raw

    @property
    def mean(self) -> Tensor | None:
        """Mean of the first layer's samples, `(B, 1, H, W)`, HU, if they are enough for a map."""
        return self.layers[0].mean

    @property
    def std(self) -> Tensor | None:
        """Standard deviation of the first layer's samples, `(B, 1, H, W)`, HU, if they are enough for a map."""
        return self.layers[0].std

    @property
    def raw_mean(self) -> Tensor:
        """Mean of the first layer's draws, `(B, 1, H, W)`, HU."""
        return self.layers[0].raw_mean

    @property
    def raw_std(self) -> Tensor:
        """Standard deviation of the first layer's draws, `(B, 1, H, W)`, HU."""
        return self.layers[0].raw_std

    @property
    def metrics(self) -> dict[str, Any]:
        """The first layer's figures, as JSON values."""
        return self.layers[0].metrics

    def to_json(self) -> dict[str, Any]:
        """Return the figures as JSON values, without paths."""
        first = self.layers[0]
        return {
            "schema": "invkit.analysis/1",
            "model": self.model,
            "layer": first.layer,
            "domain": self.domain,
            "sampler": self.sampler,
            "image": self.subject.description,
            "metrics": first.metrics,
            "answer": list(self.answer),
            "verdict": list(first.verdict.sentences),
            "samples": list(first.verdict.samples),
            "warnings": list(self.all_warnings),
            "layers": {
                result.layer: {
                    "metrics": result.metrics,
                    "verdict": list(result.verdict.sentences),
                    "samples": list(result.verdict.samples),
                    "warnings": list(result.verdict.warnings),
                    "cinn": result.trained,
                    "unrefined": result.unrefined,
                    "conclusion": None if result.conclusion is None else result.conclusion.to_json(),
                    "certificates": [
                        row for image, one in enumerate(result.certified) for row in one.rows(image)
                    ],
                    "witnesses": [
                        row for image, one in enumerate(result.witnesses) for row in one.rows(image)
                    ],
                }
                for result in self.layers
            },
            "retained": as_json(self.retained),
            "regression": as_json(self.regression),
            "provenance": self.provenance,
        }

    def tensors(self) -> dict[str, Tensor]:
        """Return every image of the result by name, HU."""
        samples = {f"layer{index}.samples": result.raw for index, result in enumerate(self.layers)}
        return {**self._maps(), **samples}

    def _maps(self) -> dict[str, Tensor]:
        """Return every image but the samples."""
        tensors = {"x": self.x, "f_x": self.f_x}
        if self.vae is not None:
            tensors["vae"] = self.vae
        if self.subject.y is not None:
            tensors["y"] = self.subject.y
        for index, result in enumerate(self.layers):
            prefix = f"layer{index}."
            tensors |= {
                f"{prefix}mean": result.raw_mean,
                f"{prefix}std": result.raw_std,
                f"{prefix}f_mean": torch.stack([draws.f_mean for draws in result.draws]),
                f"{prefix}f_std": torch.stack([draws.f_std for draws in result.draws]),
                f"{prefix}fiber_error": torch.stack([draws.fiber_error for draws in result.draws], dim=1),
            }
            if result.swap is not None:
                tensors[f"{prefix}swap"] = result.swap
            if result.certified:
                tensors[f"{prefix}certified"] = result.samples
            for change in result.changes:
                tensors |= {f"{prefix}{change.name}.{name}": image for name, image in change.images().items()}
            maps = {"certified_mean": result.mean, "certified_std": result.std} if result.mapped else {}
            tensors |= {f"{prefix}{name}": image for name, image in maps.items() if image is not None}
        return tensors

    def write_samples(self, path: Path) -> str:
        """Write every image as safetensors with provenance, few samples at a time; return the file's sha256."""
        names = {f"layer{index}": result.layer for index, result in enumerate(self.layers)}
        tensors: dict[str, Tensor | artifacts.InParts] = dict(self._maps())
        for index, result in enumerate(self.layers):
            tensors[f"layer{index}.samples"] = StackedImages([draws.stack for draws in result.draws])
        return artifacts.save_in_parts(
            path, tensors, kind="samples", meta={"layers": names, **self.provenance}
        )
