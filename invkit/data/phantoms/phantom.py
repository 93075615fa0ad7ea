"""Built-in synthetic CT: axial slices of thorax, abdomen, pelvis and head, from a seed and an index.

They are made for training where no CT is available: realistic in HU values, edge sharpness and texture, not in
the arrangement of every organ. The noise-free image is exact, which no CT can offer.
"""

__all__ = ["PHANTOM_VERSION", "REGIONS", "Phantom", "make_phantom", "phantom_region", "phantom_spacing"]

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from invkit.data.kept import keep_array
from invkit.data.phantoms.canvas import Canvas
from invkit.data.phantoms.head import draw_head
from invkit.data.phantoms.thorax import draw_thorax
from invkit.data.phantoms.trunk import draw_abdomen, draw_pelvis
from invkit.errors import UsageError
from invkit.training.seeds import derive_seed

# Part of every fingerprint: change it with every change that alters a pixel.
PHANTOM_VERSION = 2

DRAW = {"thorax": draw_thorax, "abdomen": draw_abdomen, "pelvis": draw_pelvis, "head": draw_head}
REGIONS = {"thorax": 0.38, "abdomen": 0.37, "pelvis": 0.15, "head": 0.1}
SPACING = {"thorax": (0.66, 0.86), "abdomen": (0.66, 0.86), "pelvis": (0.68, 0.86), "head": (0.43, 0.5)}


@dataclass(frozen=True)
class Phantom:
    """A phantom that is made when called, and kept in a folder between runs where one is given."""

    seed: int
    index: int
    size: int = 512
    cache: Path | None = None

    def __call__(self) -> np.ndarray:
        """Return the noise-free slice, shape `(size, size)`, float32, HU."""
        if self.cache is None:
            return make_phantom(self.seed, self.index, size=self.size)
        name = hashlib.sha256(f"{PHANTOM_VERSION}|{self.seed}|{self.index}|{self.size}".encode()).hexdigest()[
            :24
        ]
        path = self.cache / f"phantom-{name}.npy"
        try:
            image = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError):
            image = make_phantom(self.seed, self.index, size=self.size)
            keep_array(path, image)
        if image.shape != (self.size, self.size) or image.dtype != np.float32:
            image = make_phantom(self.seed, self.index, size=self.size)
        return np.asarray(image)


def make_phantom(seed: int, index: int, *, size: int = 512, region: str | None = None) -> np.ndarray:
    """Return a noise-free axial slice, shape `(size, size)`, float32, HU within [-1024, 3071].

    Args:
        seed: seed of the collection.
        index: which slice of it.
        size: side in pixels; the field of view stays, so fewer pixels are larger.
        region: one of `REGIONS`; drawn at their shares by default.

    Raises:
        UsageError: the region is unknown or the size below 32.
    """
    region, spacing, random = _start(seed, index, size, region)
    canvas = Canvas(size, spacing, random)
    DRAW[region](canvas, random)
    return canvas.finish()


def phantom_spacing(seed: int, index: int, *, size: int = 512) -> float:
    """Return the side of a pixel of that phantom, mm."""
    return _start(seed, index, size, None)[1]


def phantom_region(seed: int, index: int) -> str:
    """Return what that phantom shows, one of `REGIONS`."""
    return _start(seed, index, 512, None)[0]


def _start(seed: int, index: int, size: int, region: str | None) -> tuple[str, float, np.random.Generator]:
    if size < 32:
        raise UsageError(f"a phantom needs at least 32 pixels a side, got {size}")
    if region is not None and region not in REGIONS:
        raise UsageError(f"unknown region {region!r}; regions are {', '.join(REGIONS)}")
    random = np.random.Generator(np.random.Philox(derive_seed(seed, "phantom", index)))
    drawn = str(random.choice(list(REGIONS), p=list(REGIONS.values())))
    name = region or drawn
    return name, float(random.uniform(*SPACING[name])) * 512 / size, random
