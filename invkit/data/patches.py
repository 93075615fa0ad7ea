"""Random pairs of low-dose and full-dose patches, functions of (seed, step, place in the batch) alone."""

from __future__ import annotations

__all__ = ["Domain", "PatchBatch", "PatchSampler"]

import math
from collections import defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from threading import Lock
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from invkit.data.cache.open import Mapped
from invkit.data.dose.texture import noise_texture
from invkit.data.fields import DoseFields, dose_fields
from invkit.data.slices import HU_RANGE, Slice, SliceSet
from invkit.errors import DataError, UsageError
from invkit.training.processes.workers import side_by_side
from invkit.training.seeds import derive_seed, generator

Domain = Literal["low", "high"]  # of a pair: x at the reduced dose, or y at full dose
BODY = -500.0  # HU: more is patient (or table), less is air or lung
TILE = 1024  # side of the noise tiles that patches are cut from, pixels
WORDS = 13  # random 64-bit words for one patch
TRIES = 16  # places that are tried on a mapped slice before all of it is looked at


@dataclass(frozen=True)
class PatchBatch:
    """Patches of shape `(n, 1, s, s)`, float32, HU.

    Args:
        x: at the reduced dose.
        y: at full dose, with its noise.
        clean: without noise; `None` if any patch of the batch is from CT, where nobody knows it.
        noise: standard deviation of what x adds to y, `(n,)`, HU.
        patient: number of the patient each patch is from, `(n,)`, in the order of sources and names.
    """

    x: Tensor
    y: Tensor
    clean: Tensor | None
    noise: Tensor
    patient: Tensor

    def of(self, domain: Domain) -> Tensor:
        """Return x for `"low"`, y for `"high"`."""
        return self.x if domain == "low" else self.y


class PatchSampler:
    """Draws patch pairs: every source equally likely, then every patient, slice and place.

    For phantoms y is the clean slice with fresh full-dose noise each time; for CT y is the slice. In both, x
    is y with the noise that the lower dose adds. For CT with a real low-dose partner x is the same place of that one,
    at the dose that it has. Noise is cut from large periodic tiles at random shifts and
    mirrorings, two tiles mixed at a random angle, so it is not repeated; the noise of y and what x adds come
    from different tiles.

    Where the slices say so (`SliceSet.simulated`), noise comes from simulations of whole slices on the rays of a scanner
    instead (`dose_fields`): about a second for a slice when it is first drawn.

    Args:
        slices: what to draw from.
        size: side of the square patches, pixels. Smaller slices are padded by reflection.
        dose: fraction of the full dose that x has, in (0, 1]; pairs of real doses keep their own, unless it is 1.
        seed: of everything that is random here.
        minimum_body: smallest fraction of a patch's pixels above -500 HU; where a slice has no such place,
            its fullest place is taken.
        augment: mirror and transpose patches at random.

    Raises:
        DataError: there are no slices.
        UsageError: an argument is out of range.
    """

    def __init__(
        self,
        slices: SliceSet,
        size: int,
        *,
        dose: float = 0.25,
        seed: int = 0,
        minimum_body: float = 0.3,
        augment: bool = True,
    ) -> None:
        if not slices.slices:
            raise DataError(f"there are no slices in the {slices.description}: give data from more patients")
        if not 1 <= size <= TILE:
            raise UsageError(f"patches have a side of 1 to {TILE} pixels, got {size}")
        if not 0 < dose <= 1:
            raise UsageError(f"dose is a fraction in (0, 1], got {dose!r}; a quarter of the dose is 0.25")
        if not 0 <= minimum_body <= 1:
            raise UsageError(f"minimum_body is a fraction in [0, 1], got {minimum_body!r}")
        self.slices = slices
        self.size = size
        self.dose = dose
        self.seed = seed
        self.minimum_body = minimum_body
        self.augment = augment
        self.physical = slices.noise == "physical"
        groups: dict[str, dict[str, list[Slice]]] = {}
        for item in slices.slices:
            groups.setdefault(item.source, {}).setdefault(item.patient, []).append(item)
        self._groups = [
            [items for _, items in sorted(patients.items())] for _, patients in sorted(groups.items())
        ]
        pairs = [(source, patient) for source in sorted(groups) for patient in sorted(groups[source])]
        self._numbers = {pair: number for number, pair in enumerate(pairs)}
        self._key = derive_seed(seed, "patches")
        self._ready: dict[int, _Ready] = {}
        self._fields: dict[int, DoseFields] = {}
        # One for each slice, for batches may be drawn side by side.
        self._locks: defaultdict[int, Lock] = defaultdict(Lock)

    def batch(self, step: int, n: int, shard: slice | None = None, *, redraw: int = 0) -> PatchBatch:
        """Return batch number `step` of `n` patches, or bit for bit the part `shard` of it.

        Args:
            step: number of the batch, >= 0.
            n: patches in the whole batch.
            shard: which of them this process wants; all by default.
            redraw: another number gives the same y with other noise in x, as another scan at the lower dose would. A real
                low-dose partner is one scan alone, so stationary noise of its level takes its place then.
        """
        indices = range(n)[shard or slice(None)]
        shape = (len(indices), 1, self.size, self.size)
        x, y, clean = (np.empty(shape, dtype=np.float32) for _ in range(3))
        items = [
            self._fill(step, index, redraw, x[row, 0], y[row, 0], clean[row, 0])
            for row, index in enumerate(indices)
        ]
        known = all(item.noise_seed is not None for item in items)
        return PatchBatch(
            torch.from_numpy(x),
            torch.from_numpy(y),
            torch.from_numpy(clean) if known else None,
            torch.tensor([self._added(item) for item in items]),
            torch.tensor([self._numbers[item.source, item.patient] for item in items]),
        )

    def prepare(self, steps: Iterable[int], n: int) -> None:
        """Simulate the noise of all slices that batches of `n` patches will need, side by side, where it is simulated.

        Args:
            steps: numbers of the batches.
            n: patches in a whole batch.
        """
        items = {id(item): item for step in steps for item, _, _ in (self._chosen(step, i) for i in range(n))}
        needed = [item for item in items.values() if self._is_simulated(item)]
        deque(side_by_side(len(needed), lambda index, _: self._draw_fields(needed[index]), None), maxlen=0)

    def _fill(
        self, step: int, index: int, redraw: int, x: np.ndarray, y: np.ndarray, clean: np.ndarray
    ) -> Slice:
        """Write one patch into x, y and clean; return the slice it is from."""
        item, words, random = self._chosen(step, index)
        if redraw:
            other = np.random.Philox(key=self._key, counter=[0, redraw, index, step])
            words[9:13] = other.random_raw(WORDS).tolist()[9:13]
        patch, partner, place = self._cut(item, words[3], random)
        if self.augment:
            patch = _mirror(patch, words[4])
        own, added = self._simulated(item, place, words)
        phantom = item.noise_seed is not None
        if phantom:
            clean[...] = patch
            if own is None:
                self._noise(words[5:9], 0, item.noise, y)
            else:
                y[...] = own
            y += patch
            np.clip(y, *HU_RANGE, out=y)
        else:
            y[...] = patch
        if self.dose == 1:
            x[...] = y
        elif partner is not None and not redraw:
            x[...] = _mirror(partner, words[4]) if self.augment else partner
        else:
            if added is None:
                self._noise(words[9:13], 2, self._added(item), x)
            else:
                x[...] = added
            x += y
            np.clip(x, *HU_RANGE, out=x)
        return item

    def _chosen(self, step: int, index: int) -> tuple[Slice, list[int], np.random.Philox]:
        """Return the slice that a patch is from, the words that decide the rest, and where more of them come from."""
        random = np.random.Philox(key=self._key, counter=[0, 0, index, step])
        words = random.random_raw(WORDS).tolist()
        patients = self._groups[words[0] % len(self._groups)]
        slices = patients[words[1] % len(patients)]
        return slices[words[2] % len(slices)], words, random

    def _added(self, item: Slice) -> float:
        """Return the standard deviation of what x adds to y, HU."""
        if item.added is not None and self.dose != 1:
            return item.added
        return item.noise * math.sqrt(1 / self.dose - 1)

    def _simulated(
        self, item: Slice, place: tuple[int, int], words: list[int]
    ) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Return a patch's noise of full dose, for phantoms, and what the lower dose adds, where it is not measured."""
        if not self._is_simulated(item):
            return None, None
        fields = self._draw_fields(item)

        def cut(both: np.ndarray | None, word: int) -> np.ndarray | None:
            if both is None:
                return None
            parts = np.stack([_window(_padded(field, self.size), place, self.size) for field in both])
            mixed = fields.mix(parts, word)
            return _mirror(mixed, words[4]) if self.augment else mixed

        return cut(fields.own, words[5]), cut(fields.added, words[9])

    def _is_simulated(self, item: Slice) -> bool:
        """Tell whether noise of a slice is to be simulated on the rays of a scanner."""
        return self.physical and item.low is None and not (self.dose == 1 and item.noise_seed is None)

    def _draw_fields(self, item: Slice) -> DoseFields:
        with self._locks[id(item)]:
            if id(item) not in self._fields:
                # At full dose nothing is added, and only the noise of phantoms is needed.
                dose = 0.5 if self.dose == 1 else self.dose
                self._fields[id(item)] = dose_fields(item, dose, self.slices.keep)
            return self._fields[id(item)]

    def _cut(
        self, item: Slice, word: int, random: np.random.Philox
    ) -> tuple[np.ndarray, np.ndarray | None, tuple[int, int]]:
        """Return a patch of a slice with enough body, all of them equally likely, its low-dose partner, and its place."""
        if isinstance(item.pixels, Mapped) and min(item.pixels.shape) >= self.size:
            return self._cut_mapped(item, item.pixels, word, random)
        ready = self._places(item)
        place = ready.place(word)
        return _window(ready.pixels, place, self.size), self._partner(item, place), place

    def _cut_mapped(
        self, item: Slice, pixels: Mapped, word: int, random: np.random.Philox
    ) -> tuple[np.ndarray, np.ndarray | None, tuple[int, int]]:
        """Do the same without reading the whole slice, by trying places until one has enough body."""
        height, width = pixels.shape
        words = [word, *random.random_raw(TRIES - 1).tolist()]
        for drawn in words:
            place = drawn % (height - self.size + 1), (drawn >> 32) % (width - self.size + 1)
            patch = pixels.cut(*place, self.size)
            if np.count_nonzero(patch > BODY) >= math.ceil(self.minimum_body * self.size**2):
                return patch, self._partner(item, place), place
        ready = _Ready.of(item.image, self.size, self.minimum_body)
        place = ready.place(word)
        return _window(ready.pixels, place, self.size), self._partner(item, place), place

    def _partner(self, item: Slice, place: tuple[int, int]) -> np.ndarray | None:
        if item.low is None or self.dose == 1:
            return None
        if isinstance(item.low, Mapped) and min(item.low.shape) >= self.size:
            return item.low.cut(*place, self.size)
        return _window(_padded(item.low(), self.size), place, self.size)

    def _noise(self, words: list[int], tile: int, deviation: float, out: np.ndarray) -> None:
        """Write noise of this standard deviation: two tiles at random places, mixed at a random angle."""
        angle = 2 * math.pi * (words[0] / 2**64)
        np.multiply(self._crop(tile, words[1]), np.float32(deviation * math.cos(angle)), out=out)
        out += self._crop(tile + 1, words[2]) * np.float32(deviation * math.sin(angle))

    def _crop(self, tile: int, word: int) -> np.ndarray:
        row, column = (word >> 8) % TILE, (word >> 24) % TILE
        return _mirror(self._tiles[tile, row : row + self.size, column : column + self.size], word)

    @cached_property
    def _tiles(self) -> np.ndarray:
        return _noise_tiles(self.seed, max(self.size, 160))

    def _places(self, item: Slice) -> _Ready:
        with self._locks[id(item)]:
            ready = self._ready.get(id(item))
            if ready is None:
                pixels = item.clean
                ready = _Ready.of(item.image if pixels is None else pixels, self.size, self.minimum_body)
                if not isinstance(item.pixels, Mapped):
                    self._ready[id(item)] = ready
            return ready


@lru_cache(maxsize=4)
def _noise_tiles(seed: int, margin: int) -> np.ndarray:
    """Return four periodic noise tiles, repeated by `margin` pixels so that no crop has to wrap."""
    random = generator(seed, "patches", "noise tiles")
    tiles = noise_texture(4, TILE, TILE, generator=random, periodic=True)[:, 0].numpy()
    return np.pad(tiles, ((0, 0), (0, margin), (0, margin)), mode="wrap")


def _padded(pixels: np.ndarray, size: int) -> np.ndarray:
    """Return a slice that is at least as large as a patch."""
    missing = [max(0, size - side) for side in pixels.shape]
    if not any(missing):
        return pixels
    return np.pad(pixels, [(m // 2, m - m // 2) for m in missing], mode="symmetric")


def _window(pixels: np.ndarray, place: tuple[int, int], size: int) -> np.ndarray:
    return pixels[place[0] : place[0] + size, place[1] : place[1] + size]


def _mirror(patch: np.ndarray, word: int) -> np.ndarray:
    """Return one of the eight symmetries of a square patch, chosen by the three lowest bits."""
    patch = patch[:: -1 if word & 1 else 1, :: -1 if word & 2 else 1]
    return patch.T if word & 4 else patch


@dataclass(frozen=True)
class _Ready:
    """A slice to cut patches from: pixels, places with enough body, and their count up to each row."""

    pixels: np.ndarray
    allowed: np.ndarray
    until: np.ndarray

    @classmethod
    def of(cls, pixels: np.ndarray, size: int, minimum_body: float) -> _Ready:
        pixels = _padded(pixels, size)
        table = np.zeros((pixels.shape[0] + 1, pixels.shape[1] + 1), dtype=np.int32)
        np.cumsum(np.cumsum(pixels > BODY, axis=0, dtype=np.int32), axis=1, out=table[1:, 1:])
        body = table[size:, size:] - table[:-size, size:] - table[size:, :-size] + table[:-size, :-size]
        allowed = body >= min(math.ceil(minimum_body * size * size), int(body.max()))
        return cls(pixels, allowed, np.cumsum(allowed.sum(axis=1)))

    def place(self, word: int) -> tuple[int, int]:
        """Return the row and column of one of the allowed patches, all equally likely."""
        number = word % int(self.until[-1])
        row = int(np.searchsorted(self.until, number, side="right"))
        before = int(self.until[row - 1]) if row else 0
        return row, int(np.flatnonzero(self.allowed[row])[number - before])
