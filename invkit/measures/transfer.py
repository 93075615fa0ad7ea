"""Do the samples of one denoiser lie in the fiber of another?"""

__all__ = ["Judged", "Transfer", "transfer"]

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from invkit.errors import InputError
from invkit.fiber.distance import Activation, activation_distance
from invkit.statistics.intervals import Interval
from invkit.statistics.resampling import image_intervals


@dataclass(frozen=True)
class Judged:
    """A layer whose fiber is asked about, and the unit of distances in it.

    Args:
        phi: maps `(n, 1, H, W)` in HU to the activation (`Split.phi`).
        scale: unit of its errors: s_Phi for the relative fiber error, or eta in the activation's own unit.
    """

    phi: Callable[[Tensor], Activation]
    scale: float


@dataclass(frozen=True)
class Transfer:
    """Fiber errors of each layer's samples under each layer.

    Args:
        layers: names, in order.
        error: `error[a][b]` is the fiber error of a's samples under b, in units of b's scale.
        random: under each b, the error of what knows nothing of x, where it was given.
    """

    layers: tuple[str, ...]
    error: Mapping[str, Mapping[str, Interval]]
    random: Mapping[str, Interval]

    def figures(self) -> dict[str, Any]:
        """Return the figures by their keys."""
        return {
            "layers": list(self.layers),
            "error": self.error,
            "random": self.random,
        }


@torch.no_grad()
def transfer(
    layers: Mapping[str, Judged],
    images: Sequence[Tensor],
    samples: Mapping[str, Sequence[Tensor]],
    groups: Sequence[Any] | None = None,
    *,
    references: Tensor | None = None,
    batch: int = 8,
    seed: int = 0,
    draws: int = 1000,
) -> Transfer:
    """Return the matrix of fiber errors: root mean square of (Phi_B(x_A) - Phi_B(x)) / scale_B, x_A being A's samples.

    Metamers of one model shown to another, as in Feather et al. (Nature Neuroscience 26, 2023). The diagonal holds
    fiber errors. Off it, a small error says that B ignores what A ignores; an error as large as that of references says
    that B depends on what A ignores.

    Args:
        layers: by name; all see the same images.
        images: x, each `(1, 1, H, W)`, HU.
        samples: by name of the layer they are certified for: for each image `(n, 1, H, W)`, HU; n may be 0.
        groups: labels of the images (patients).
        references: other images of the same dose and size, `(k, 1, H, W)`, HU.
        batch: images that go through a layer at once.
        seed: of the resampling.
        draws: bootstrap samples.

    Raises:
        InputError: samples for a layer that is not among `layers`, for another number of images, or none at all.
    """
    unknown = samples.keys() - layers.keys()
    if unknown:
        raise InputError(
            f"there are samples for {', '.join(sorted(unknown))}, but the layers are {', '.join(layers)}"
        )
    if any(len(of_images) != len(images) for of_images in samples.values()) or not images:
        raise InputError(
            f"every layer needs samples for each of the {len(images)} images (none is an empty tensor)"
        )
    if groups is not None and len(groups) != len(images):
        raise InputError(f"got {len(groups)} group labels for {len(images)} images; give one label to each")
    squares: dict[str, dict[str, list[np.ndarray]]] = {a: {b: [] for b in layers} for a in samples}
    random: dict[str, list[np.ndarray]] = {b: [] for b in layers}
    for name, layer in layers.items():
        for index, x in enumerate(images):
            z = layer.phi(x)
            for owner, of_images in samples.items():
                squares[owner][name].append(_squares(layer, of_images[index], z, batch))
            if references is not None:
                random[name].append(_squares(layer, references, z, batch))

    def interval(rows: Sequence[np.ndarray], name: str) -> Interval:
        known = [index for index, of_image in enumerate(rows) if len(of_image)]
        if not known:
            raise InputError(f"no image has a sample of {name}; leave it out of the matrix")
        labels = None if groups is None else [groups[index] for index in known]
        (found,) = image_intervals(
            [[rows[index]] for index in known],
            lambda arrays: np.array([arrays[0].mean()]),
            np.sqrt,
            labels,
            seed=seed,
            draws=draws,
        )
        return found

    return Transfer(
        layers=tuple(layers),
        error={a: {b: interval(rows, a) for b, rows in of_a.items()} for a, of_a in squares.items()},
        random={}
        if references is None
        else {b: interval(rows, "the reference images") for b, rows in random.items()},
    )


def _squares(layer: Judged, images: Tensor, z: Activation, batch: int) -> np.ndarray:
    """Return the squared fiber error of each image, `(n,)`."""
    if not len(images):
        return np.empty(0)
    distances = [activation_distance(layer.phi(part), z) for part in torch.split(images, batch)]
    return (torch.cat(distances) / layer.scale).square().cpu().numpy()
