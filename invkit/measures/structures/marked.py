"""Is a marked structure real? The image in which it is weakest, that a layer does not tell from x."""

__all__ = ["Marked", "Marking", "Share", "measure_marked"]

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from invkit.errors import InputError
from invkit.images.box import Box
from invkit.images.marked import above_surroundings, contrast_of
from invkit.measures.structures.hidden import hidden_with_companion, largest_unseen
from invkit.measures.structures.shown import ChangedImage, changed_image
from invkit.statistics.intervals import number
from invkit.tolerance.layer import AROUND, TolerancedLayer
from invkit.training.seeds import generator
from invkit.verdict.marked import MarkedFound

SCANS = 64  # of noise, of which the contrast has a deviation
MARGIN = 40  # pixels more on a side than the rectangle has, so that what is cut out around it holds it wherever it begins


@dataclass(frozen=True)
class Marking:
    """A marked structure, and where it is measured.

    Args:
        box: in the image under test.
        layer: at the image, or at what was cut out of it around the structure.
        identity: likewise; its own tolerance does not count.
    """

    box: Box
    layer: TolerancedLayer
    identity: TolerancedLayer


@dataclass(frozen=True)
class Share:
    """How much of the structure can be taken away, of 1.

    Args:
        alone: by itself.
        companion: with noise that is no rarer than two standard deviations beside it.
    """

    alone: float
    companion: float


@dataclass(frozen=True)
class Marked:
    """What is found of a marked structure.

    Args:
        box: where it is, in the image under test.
        contrast: in x above its surroundings, HU.
        noise: standard deviation of that by dose noise alone, HU.
        output: contrast in f(x), HU.
        share: that the layer does not see.
        image: the same for the image itself in place of z, at the same tolerance.
        images: x without that share, alone and with noise.
    """

    box: Box
    contrast: float
    noise: float
    output: float
    share: Share
    image: Share
    images: tuple[ChangedImage, ...]

    @property
    def found(self) -> MarkedFound:
        """What a sentence is made from."""
        return MarkedFound(
            str(self.box),
            self.contrast,
            self.noise,
            self.output,
            (self.share.alone, self.share.companion),
            (self.image.alone, self.image.companion),
        )

    def figures(self) -> Mapping[str, Any]:
        """Return the figures under `structure`."""

        def of(share: Share, prefix: str = "") -> Mapping[str, float]:
            return {
                f"{prefix}share": share.alone,
                f"{prefix}weakest_hu": (1 - share.alone) * self.contrast,
                f"{prefix}share_companion": share.companion,
                f"{prefix}weakest_companion_hu": (1 - share.companion) * self.contrast,
            }

        return {
            "box_px": [self.box.x, self.box.y, self.box.width, self.box.height],
            "contrast_hu": self.contrast,
            "noise_hu": self.noise,
            "output_hu": self.output,
            **of(self.share),
            **of(self.image, "identity_"),
        }


@torch.no_grad()
def measure_marked(marking: Marking, *, seed: int) -> Marked:
    """Find the image in which a marked structure is weakest, among those that a layer does not tell from x.

    The structure d is what the rectangle holds beyond its surroundings; what is sought is the largest share of d, at most 1, for
    which x less that share of d moves no window by more than the tolerance.

    Args:
        marking: where the structure is.
        seed: of noise.

    Raises:
        InputError: padding reaches the rectangle.
    """
    box, layer, identity = marking.box, marking.layer, marking.identity
    here = box.moved(-layer.origin[0], -layer.origin[1])
    if not here.within(layer.frame.interior):
        raise InputError(
            f"the structure {box} (x,y,w,h) is less than {layer.frame.pixels or 0} pixels from the border of the image, and so far "
            f"padding reaches into layer {layer.split.layer} or f. Mark one further inside, or give a larger image"
        )
    above = above_surroundings(layer.x, here)
    scans = above_surroundings(layer.covariance.draws(SCANS, generator(seed, "marked")), here)
    contrast = float(contrast_of(above, here))
    share, images = _taken(layer, here, above, contrast)
    same, _ = _taken(identity.beside(layer), here, above, contrast, shown=False)
    return Marked(
        box,
        contrast,
        float(contrast_of(scans, here).square().mean().sqrt()),
        float(contrast_of(above_surroundings(layer.f_x, here), here)),
        share,
        same,
        images,
    )


def _taken(
    layer: TolerancedLayer, box: Box, above: Tensor, contrast: float, *, shown: bool = True
) -> tuple[Share, tuple[ChangedImage, ...]]:
    """Return how much can be taken away, and the images without it."""
    centre = torch.tensor([box.middle])
    crops = layer.crops(centre, max(AROUND, max(box.width, box.height) + 2 * MARGIN))
    row, column = (centre - crops.centres)[0].tolist()
    rows, columns = crops.images.shape[-2:]
    without = -above[..., row : row + rows, column : column + columns]
    most = largest_unseen(layer, crops, without)
    with_noise = hidden_with_companion(layer, crops, without, most)
    alone = min(1.0, float(most))
    companion = min(1.0, float(with_noise.contrast))
    if not shown:
        return Share(alone, companion), ()
    # Less of a change is no more of a distance but in a layer that is far from linear; then it is made less still.
    whole = number(abs(contrast))
    less = companion / float(with_noise.contrast)
    changes = (
        ("structure", f"{{}} of {whole} HU of the marked structure taken away", alone, alone * without),
        (
            "structure_companion",
            f"{{}} of {whole} HU of the marked structure taken away, with noise in its place",
            companion,
            less * with_noise.change,
        ),
    )
    images = tuple(
        changed_image(layer, name, text, (row, column), c * without, change, -c * contrast)
        for name, text, c, change in changes
    )
    return Share(alone * images[0].scale, companion * images[1].scale), images
