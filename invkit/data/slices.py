"""Full-dose slices to train on: built-in phantoms or a user's CT, split by patient, with a fingerprint."""

from __future__ import annotations

__all__ = ["NoiseModel", "Slice", "SliceSet", "join_slices", "load_slices", "split_meta"]

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from invkit.artifacts import fingerprint
from invkit.data.arrays import digest, read_arrays
from invkit.data.cache.files import is_cache
from invkit.data.cache.open import TRAINING_RANGE, Mapped, open_cache
from invkit.data.cache.split import entries_hash, stratum
from invkit.data.dose.image import estimate_noise
from invkit.data.dose.rays import SIMULATION_VERSION
from invkit.data.dose.texture import noise_texture
from invkit.data.images import as_image
from invkit.data.partition import PARTS, Part, partition
from invkit.data.phantoms.phantom import PHANTOM_VERSION, Phantom, phantom_spacing
from invkit.errors import DataError, UsageError
from invkit.training.seeds import derive_seed, generator

NoiseModel = Literal["image", "physical"]
PHANTOMS = "phantoms"
PATIENTS = 240
NOISE = (8.0, 22.0)  # HU at full dose, so that a quarter of the dose has 16 to 44
HU_RANGE = TRAINING_RANGE
SPEC = re.compile(r"phantoms(?::(\d+))?")


@dataclass(frozen=True, eq=False)
class Slice:
    """One full-dose slice; phantoms are made when they are first looked at.

    Args:
        patient: pseudonym, unique within the source.
        source: `"phantoms"`, `"ct-"` and the start of a content hash, or of a cache its name, or `"ldct"`.
        noise: standard deviation of the full-dose noise in `image`, HU.
        spacing: rows and columns, mm, where known.
        pixels: gives the stored pixels, shape `(H, W)`, float32, HU: with noise for CT, without for phantoms.
        noise_seed: seed of a phantom's own noise; `None` for CT.
        low: gives the pixels of a real low-dose partner, as `pixels` does; `None` where there is none.
        added: standard deviation of what low dose adds to `image`, HU, where there is a partner.
        exam: type of examination, a key of `invkit.data.exam.EXAMS`, where it is known.
        part: to which part a cache assigned the patient; `None` where that is decided by rank.
    """

    patient: str
    source: str
    noise: float
    spacing: tuple[float, float] | None
    pixels: Callable[[], np.ndarray] = field(repr=False)
    noise_seed: int | None = None
    low: Callable[[], np.ndarray] | None = field(default=None, repr=False)
    added: float | None = None
    exam: str = ""
    part: Part | None = None

    @property
    def clean(self) -> np.ndarray | None:
        """The noise-free slice, shape `(H, W)`, float32, HU; `None` for CT, where nobody knows it."""
        return self._pixels if self.noise_seed is not None else None

    @property
    def image(self) -> np.ndarray:
        """The full-dose slice with its noise in it, shape `(H, W)`, float32, HU."""
        if self.noise_seed is None:
            return self._pixels
        height, width = self._pixels.shape
        texture = noise_texture(1, height, width, generator=generator(self.noise_seed))[0, 0].numpy()
        noisy: np.ndarray = np.clip(self._pixels + np.float32(self.noise) * texture, *HU_RANGE)
        return noisy

    @property
    def low_image(self) -> np.ndarray | None:
        """The real low-dose partner, shape `(H, W)`, float32, HU; `None` where there is none."""
        return None if self.low is None else self.low()

    @property
    def _pixels(self) -> np.ndarray:
        # What lies on disk is not kept: there can be more of it than memory.
        return self.pixels() if isinstance(self.pixels, Mapped) else self._kept

    @cached_property
    def _kept(self) -> np.ndarray:
        return self.pixels()


@dataclass(frozen=True, eq=False)
class SliceSet:
    """Slices with a fingerprint of everything that decides what they are.

    Args:
        slices: the slices; every source and patient they name is in them.
        fingerprint: sha256 over generator version, seed and counts of phantoms, and over pixels and spacing
            of CT.
        description: one line for people.
        whole_split: `split` of the set that this is a part of; `None` for a whole one.
        noise: how noise is made for patches that have no real low-dose partner: `"image"`, stationary and added in the
            image, or `"physical"`, simulated on the rays of a scanner.
        keep: folder in which simulated noise is kept between runs.
    """

    slices: tuple[Slice, ...]
    fingerprint: str
    description: str
    whole_split: str | None = field(default=None, repr=False)
    noise: NoiseModel = "image"
    keep: Path | None = field(default=None, repr=False)

    @classmethod
    def of(
        cls,
        patients: Mapping[str, Iterable[ArrayLike]],
        *,
        spacing: tuple[float, float] | None = None,
        description: str = "",
    ) -> SliceSet:
        """Return full-dose slices that are in memory as a set, as the source of a plugin returns it.

        Args:
            patients: slices of each patient, `(H, W)`, HU, by a pseudonym.
            spacing: rows and columns, mm, where known.
            description: one line for people.

        Raises:
            DataError: there is no slice.
            ImageError: one is no image in HU.
        """
        images = [
            (patient, as_image(np.asarray(image, np.float32))[0, 0].numpy(), spacing)
            for patient, stack in patients.items()
            for image in stack
        ]
        if not images:
            raise DataError("there is no slice to train on")
        slices, hashes = _in_memory(images)
        text = description or f"{len(slices)} CT slices of {len(patients)} patients"
        return cls(tuple(slices), fingerprint({"ct": hashes}), text)

    def simulated(self, keep: Path | None = None) -> SliceSet:
        """Return the same slices with noise that is simulated physically.

        Args:
            keep: folder in which simulated noise is kept between runs; nothing is kept without it.
        """
        made = fingerprint({"noise": "physical", "version": SIMULATION_VERSION, "of": self.fingerprint})
        described = f"{self.description}, noise simulated on the rays of a scanner"
        return replace(self, fingerprint=made, description=described, noise="physical", keep=keep)

    @cached_property
    def split(self) -> str:
        """The sha256 over (source and exam type, patient, part) of all; a part has that of the whole."""
        if self.whole_split is not None:
            return self.whole_split
        parts = self._parts()
        return entries_hash(
            (stratum(item.source, item.exam), item.patient, parts[item.source, item.patient])
            for item in self.slices
        )

    def part(self, name: Part) -> SliceSet:
        """Return the slices of "train", "validation" or "test": 70 / 20 / 10 % of the patients.

        A part of a very small source can be empty.

        Raises:
            UsageError: there is no part of this name.
        """
        if name not in PARTS:
            raise UsageError(f"there is no part {name!r}; parts are {', '.join(PARTS)}")
        parts = self._parts()
        chosen = tuple(item for item in self.slices if parts[item.source, item.patient] == name)
        return SliceSet(
            chosen,
            fingerprint({"part": name, "of": self.fingerprint}),
            f"{name} part of {self.description}",
            self.split,
            self.noise,
            self.keep,
        )

    def _parts(self) -> dict[tuple[str, str], Part]:
        """Return the part of every (source, patient): a cache's own, else by rank within the source."""
        result: dict[tuple[str, str], Part] = {}
        ranked: dict[str, set[str]] = {}
        for item in self.slices:
            if item.part is None:
                ranked.setdefault(item.source, set()).add(item.patient)
            elif result.setdefault((item.source, item.patient), item.part) != item.part:
                raise DataError(
                    f"patient {item.patient} is in two parts of {item.source}: prepare one cache of both"
                )
        for source, names in ranked.items():
            result |= {(source, patient): part for patient, part in partition(names).items()}
        return result


def split_meta(slices: SliceSet) -> dict[str, Any]:
    """Return the fields `split` and `splits` for the provenance of a trained file: of all sources, and of each.

    `invkit.data.cache.split.check_same_split` compares them.

    Args:
        slices: a whole set, not a part of one.
    """
    parts = slices._parts()
    entries: dict[str, list[tuple[str, str, Part]]] = {}
    for item in slices.slices:
        entry = (stratum(item.source, item.exam), item.patient, parts[item.source, item.patient])
        entries.setdefault(item.source, []).append(entry)
    splits = {source: entries_hash(found) for source, found in sorted(entries.items())}
    return {"split": slices.split, "splits": splits}


def join_slices(sets: Sequence[SliceSet]) -> SliceSet:
    """Return several whole sets as one; their order does not change its fingerprint.

    Raises:
        UsageError: two are the same.
        DataError: a patient would be in two parts.
    """
    if len(sets) == 1:
        return sets[0]
    prints = sorted(part.fingerprint for part in sets)
    if len(set(prints)) < len(prints):
        raise UsageError("the same data are given twice as training data; give each once")
    joined = SliceSet(
        tuple(item for part in sets for item in part.slices),
        fingerprint(prints),
        " + ".join(part.description for part in sets),
    )
    joined._parts()
    return joined


def load_slices(
    specs: Sequence[str | Path] | str | Path | None,
    *,
    seed: int = 0,
    size: int = 512,
    cache: Path | None = None,
) -> SliceSet:
    """Return the slices that `specs` names, all in one set.

    Args:
        specs: `None` or empty for the phantoms; else each is `"phantoms"`, `"phantoms:N"` (N of them)
            or a path: a cache of `invkit data prepare`; a DICOM file, folder or zip, an `.npy` file or a folder of
            them (HU, full dose).
        seed: seed of the phantoms; CT does not depend on it.
        size: side of the phantoms, pixels.
        cache: folder in which phantoms are kept between runs; nothing is kept without it.

    Raises:
        DataError: a path is missing or holds no usable slice; a cache is damaged; a folder holds two doses, which
            only a cache can keep apart.
        UsageError: a phantom spec is malformed.
    """
    if isinstance(specs, str | Path):
        specs = [specs]
    slices: list[Slice] = []
    made_of: list[dict[str, object]] = []
    descriptions: list[str] = []
    for spec in specs or [PHANTOMS]:
        text = str(spec)
        if text.startswith(PHANTOMS) and not Path(text).exists():
            count = _phantom_count(text)
            slices += _phantoms(count, seed, size, cache)
            made_of.append({PHANTOMS: PHANTOM_VERSION, "seed": seed, "count": count, "size": size})
            descriptions.append(f"{count} built-in phantoms (seed {seed})")
        elif is_cache(Path(spec)):
            cached, sha256 = _cached(Path(spec))
            slices += cached
            made_of.append({"cache": sha256})
            descriptions.append(_described(cached))
        else:
            found, hashes = _in_memory(read_arrays(Path(spec)))
            slices += found
            made_of.append({"ct": hashes})
            patients = len({item.patient for item in found})
            descriptions.append(f"{len(found)} CT slices of {patients} patients")
    unique = sorted((fingerprint(part), part) for part in made_of)
    if len({key for key, _ in unique}) < len(unique):
        raise UsageError("the same data are given twice as training data; give each once")
    whole = SliceSet(tuple(slices), fingerprint([key for key, _ in unique]), " + ".join(descriptions))
    whole._parts()
    return whole


def _phantom_count(text: str) -> int:
    match = SPEC.fullmatch(text)
    count = PATIENTS if match and match[1] is None else int(match[1]) if match else 0
    if count < 1:
        raise UsageError(
            f"cannot read {text!r}: write 'phantoms' or 'phantoms:N' with N >= 1, or an existing path"
        )
    return count


def _phantoms(count: int, seed: int, size: int, cache: Path | None) -> list[Slice]:
    result = []
    for index in range(count):
        unit = derive_seed(seed, "phantom noise level", index) / 2**63
        spacing = phantom_spacing(seed, index, size=size)
        result.append(
            Slice(
                patient=f"phantom-{index:05d}",
                source=PHANTOMS,
                noise=NOISE[0] + (NOISE[1] - NOISE[0]) * unit,
                spacing=(spacing, spacing),
                pixels=Phantom(seed, index, size, cache),
                noise_seed=derive_seed(seed, "phantom noise", index),
            )
        )
    return result


def _cached(folder: Path) -> tuple[list[Slice], str]:
    """Return the slices of a cache, which stay on disk, and their fingerprint."""
    opened = open_cache(folder)
    result = []
    for record, shard in opened.shards:
        for index, noise in enumerate(record.noise):
            result.append(
                Slice(
                    patient=record.patient,
                    source=opened.source,
                    noise=noise,
                    spacing=record.spacing,
                    pixels=Mapped(shard, index, 0),
                    low=Mapped(shard, index, 1) if record.paired else None,
                    added=record.added[index] if record.paired else None,
                    exam=opened.split.exams[record.patient],
                    part=opened.split.parts[record.patient],
                )
            )
    return result, opened.fingerprint


def _described(slices: Sequence[Slice]) -> str:
    patients, pairs = len({item.patient for item in slices}), sum(item.low is not None for item in slices)
    partners = f", {'all' if pairs == len(slices) else pairs} with a real low-dose partner" if pairs else ""
    return f"{len(slices)} CT slices of {patients} patients from a cache{partners}"


def _in_memory(
    images: Sequence[tuple[str, np.ndarray, tuple[float, float] | None]],
) -> tuple[list[Slice], list[str]]:
    """Return slices of (pseudonym, pixels, spacing), and the sorted hashes of their contents."""
    hashes = sorted(digest(image, spacing) for _, image, spacing in images)
    source = f"ct-{fingerprint(hashes)[:12]}"
    result = []
    for patient, image, spacing in images:
        pixels = np.ascontiguousarray(np.clip(image, *HU_RANGE), dtype=np.float32)
        result.append(
            Slice(
                patient=patient,
                source=source,
                noise=estimate_noise(pixels),
                spacing=spacing,
                pixels=_Stored(pixels),
            )
        )
    return result, hashes


@dataclass(frozen=True)
class _Stored:
    """Pixels that are already in memory."""

    pixels: np.ndarray

    def __call__(self) -> np.ndarray:
        return self.pixels
