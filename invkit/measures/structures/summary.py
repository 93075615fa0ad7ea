"""What becomes of structures and of noise at a layer, at a tolerance that means something: the figures of one layer."""

__all__ = ["Structures", "measure_structures", "noise_of_f"]

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from invkit.measures.structures.condition import Condition, condition_of
from invkit.measures.structures.curve import CURVE_RADII, CurvePoint, measure_curve
from invkit.measures.structures.inserted import CONTRAST, measure_inserted
from invkit.measures.structures.marked import Marked, Marking, measure_marked
from invkit.measures.structures.plan import Breadth
from invkit.measures.structures.rows import StructureRow
from invkit.measures.structures.shown import ChangedImage, hidden_images
from invkit.measures.structures.worst import WorstRow, measure_worst
from invkit.posterior.draws import Posterior, PosteriorDraws
from invkit.posterior.hidden import hidden_noise, high_share
from invkit.posterior.rescaled import rescaled_spread
from invkit.statistics.intervals import Interval
from invkit.tolerance.layer import TolerancedLayer
from invkit.training.seeds import generator
from invkit.verdict.structures import DiscFound, StructureFound, StructuresFound

DRAWS = 8  # of the noise that f sees, for each image


@dataclass(frozen=True)
class Structures:
    """The figures, over all images.

    Args:
        rows: of structures.
        noise: `in_hu`, noise of the images; `out_hu`, what f leaves of it; `hidden_hu`, the spread of images that the layer does
            not tell from x at the tolerance, weighted by the noise's covariance; the same for the identity, and for half and twice
            the covariance. There is no spread where the interior is too small.
        curve: what hides at each mark of the tolerance.
        worst: the strongest low-pass changes.
        condition: of the layer at the first image; `None` where it has none.
        layers: the layer at each image.
        draws: of each image.
        window: rows and columns of the part that all this is of; `None` for whole images.
        marked: what was found of a marked structure; `None` where none is.
        hidden: images with the disc that hides most.
    """

    rows: tuple[StructureRow, ...]
    noise: Mapping[str, Interval | None]
    curve: tuple[CurvePoint, ...]
    worst: tuple[WorstRow, ...]
    condition: Condition | None
    layers: tuple[TolerancedLayer, ...]
    draws: tuple[PosteriorDraws, ...]
    window: tuple[int, int] | None
    marked: Marked | None = None
    hidden: tuple[ChangedImage, ...] = ()

    @property
    def images(self) -> tuple[ChangedImage, ...]:
        """Images with a change that hides: the disc, then the marked structure."""
        return (*self.hidden, *(() if self.marked is None else self.marked.images))

    @property
    def found(self) -> StructuresFound:
        """What sentences are drawn from."""
        marks = [layer.marks for layer in self.layers]
        needed = [layer.frame.needed for layer in self.layers if not layer.frame.enough]
        several = len({row.contrast for row in self.rows}) > 1

        def of(name: str) -> float | None:
            figure = self.noise[name]
            return None if figure is None else figure.value

        ours, dose = of("hidden_high"), of("in_high")
        high = None if ours is None or dose is None else (ours, dose)
        return StructuresFound(
            discs=[
                DiscFound(
                    row.shape.radius,
                    *(
                        row.values[name].value
                        for name in (
                            "contrast_kept",
                            "detectability_lost",
                            "identity_detectability_lost",
                            "hidden_hu",
                            "identity_hidden_hu",
                        )
                    ),
                )
                for row in self.rows
                if (row.shape.kind, row.contrast, row.tissue) == ("disc", CONTRAST, self.rows[0].tissue)
            ],
            tissue=self.rows[0].tissue if self.rows else None,
            noise=of("in_hu") or 0.0,
            left=of("out_hu") or 0.0,
            hidden=of("hidden_hu"),
            hidden_image=of("identity_hidden_hu"),
            tolerance=_mean([mark.tolerance for mark in marks]),
            mark=marks[0].at,
            needed=max(needed, default=None),
            window=self.window,
            high=high,
            condition=None if self.condition is None else (self.condition.value, self.condition.at_least),
            converged=all(row.converged for row in self.rows) and all(one.converged for one in self.draws),
            every=[
                StructureFound(
                    f"{row.shape.name} in {row.tissue}",
                    row.contrast,
                    *(
                        row.values[name].value
                        for name in ("contrast_kept", "hidden_hu", "identity_hidden_hu")
                    ),
                )
                for row in (self.rows if several else ())
            ],
        )

    @property
    def _headline(self) -> CurvePoint:
        """The curve's point at the tolerance of all other figures."""
        ours, image = self.noise["hidden_hu"], self.noise["identity_hidden_hu"]
        discs = [row for row in self.rows if row.shape.kind == "disc" and row.shape.radius in CURVE_RADII]
        return CurvePoint(
            self.layers[0].marks.at,
            _mean([layer.tolerance for layer in self.layers]),
            None if ours is None or image is None else (ours, image),
            {
                row.shape.radius: (row.values["hidden_hu"], row.values["identity_hidden_hu"])
                for row in discs
                if (row.contrast, row.tissue) == (CONTRAST, self.rows[0].tissue)
            },
        )

    def figures(self) -> Mapping[str, Any]:
        """Return the figures of a layer that belong here, by their keys."""
        marks = [layer.marks for layer in self.layers]
        frames = [layer.frame for layer in self.layers]
        first = marks[0]
        bounded = [frame.pixels for frame in frames if frame.pixels is not None]
        values = {
            name: _mean([mark.values[name] for mark in marks])
            for name in first.values
            if all(name in mark.values for mark in marks)
        }
        return {
            "structures": [row.figures() for row in self.rows],
            "noise": {
                **self.noise,
                "converged": all(one.converged for one in self.draws),
                "source": ", ".join(sorted({layer.covariance.source for layer in self.layers})),
            },
            "tolerance": {
                "mark": first.at,
                "value": _mean([mark.tolerance for mark in marks]),
                "hu_at_output": _mean([mark.hu_at_output for mark in marks]),
                "marks": values,
            },
            "curve": [
                point.figures()
                for point in sorted((self._headline, *self.curve), key=lambda one: one.tolerance)
            ],
            "worst_case": [row.figures() for row in self.worst],
            "condition": None if self.condition is None else self.condition.figures(),
            **({} if self.marked is None else {"structure": self.marked.figures()}),
            "frame_px": max(bounded) if len(bounded) == len(frames) else None,
            "structures_window_px": None if self.window is None else list(self.window),
            "frame_needs_px": max(frame.needed for frame in frames)
            if not all(frame.enough for frame in frames)
            else None,
        }


@torch.no_grad()
def measure_structures(
    layers: Sequence[TolerancedLayer],
    identities: Sequence[TolerancedLayer],
    draws: Sequence[PosteriorDraws],
    *,
    size: tuple[int, int],
    spacing: float | None,
    seed: int,
    full: Breadth | None = None,
    marking: Marking | None = None,
) -> Structures:
    """Measure what becomes of structures and of noise at a layer.

    Args:
        layers: the layer at each image.
        identities: the identity at each image.
        draws: of the layer's posterior at each image; none where nothing was drawn.
        size: `(H, W)` of the images, of which the layers may be at a window.
        spacing: mm per pixel; `None` where it is not known.
        seed: of every draw.
        full: for all kinds of structures, contrasts and tissues.
        marking: a marked structure.

    Raises:
        InputError: padding reaches what is marked.
    """
    marked = None if marking is None else measure_marked(marking, seed=seed)
    same = [
        Posterior.of(identity.beside(layer)).draw(len(one.images), seed=seed, stream=f"posterior {image}")
        for image, (layer, identity, one) in enumerate(zip(layers, identities, draws, strict=False))
    ]
    before, after = zip(*(noise_of_f(layer, seed, image) for image, layer in enumerate(layers)), strict=True)
    enough = all(layer.frame.enough for layer in layers)
    frames = [layer.frame.interior for layer in layers]

    def hidden(found: Sequence[PosteriorDraws]) -> Interval | None:
        if not enough or not found:
            return None
        squares = [
            (one.first - layer.x)[..., rows, columns].square()
            for one, layer, (rows, columns) in zip(found, layers, frames, strict=True)
        ]
        return hidden_noise(squares, seed)

    inner = layers[0].frame.inner
    measured = (
        layers[0].frame.size
        if inner is None
        else (inner[0].stop - inner[0].start, inner[1].stop - inner[1].start)
    )
    rows = measure_inserted(layers, identities, spacing=spacing, seed=seed, full=full)
    return Structures(
        rows=rows,
        noise={
            "in_hu": hidden_noise(before, seed),
            "out_hu": hidden_noise(after, seed),
            "hidden_hu": hidden(draws),
            "identity_hidden_hu": hidden(same),
            **_high(layers, draws, seed),
            **rescaled_spread(hidden(draws), layers, seed=seed),
        },
        curve=measure_curve(layers, identities, seed=seed, drawn=bool(draws)),
        worst=measure_worst(layers, identities, spacing=spacing, seed=seed),
        condition=condition_of(layers[0]),
        layers=tuple(layers),
        draws=tuple(draws),
        window=None if measured == size else measured,
        marked=marked,
        hidden=hidden_images(layers, identities, rows, contrast=CONTRAST, seed=seed),
    )


def noise_of_f(layer: TolerancedLayer, seed: int, image: int) -> tuple[Tensor, Tensor]:
    """Return the squares of noise and of what f makes of it within the frame, `(DRAWS, 1, h, w)`, HU^2."""
    rows, columns = layer.frame.interior
    noise = layer.covariance.draws(DRAWS, generator(seed, "noise of f", image))
    after = torch.cat([layer.split.denoiser(layer.f_x + one) for one in noise.split(2)])
    # About their mean, for what f makes of the image itself is no noise.
    off = (after - after.mean(0)).square() * DRAWS / (DRAWS - 1)
    return noise.square()[..., rows, columns], off[..., rows, columns]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _high(
    layers: Sequence[TolerancedLayer], draws: Sequence[PosteriorDraws], seed: int
) -> dict[str, Interval | None]:
    """Return which shares of the hidden noise and of the dose noise lie at high frequencies."""
    if not draws or not all(layer.frame.enough for layer in layers):
        return {"hidden_high": None, "in_high": None}
    noise = [
        layer.covariance.draws(DRAWS, generator(seed, "noise of f", image))
        for image, layer in enumerate(layers)
    ]
    hidden = [one.first - layer.x for one, layer in zip(draws, layers, strict=True)]

    def share(images: Sequence[Tensor]) -> Interval:
        inside = [one[(..., *layer.frame.interior)] for one, layer in zip(images, layers, strict=True)]
        return Interval(high_share(inside))

    return {"hidden_high": share(hidden), "in_high": share(noise)}
