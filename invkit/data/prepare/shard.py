"""One shard of a cache: what goes into it, and how it is made, checked or kept; runs in a process of its own."""

__all__ = ["Block", "Frame", "make_shard"]

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from invkit.artifacts import fingerprint, sha256_file
from invkit.data.cache.files import Record, Source, shard_is_intact, write_shard
from invkit.data.dose.image import SOFT_TISSUE, estimate_noise
from invkit.data.prepare.pixels import anatomy_difference, read_pixels
from invkit.errors import ImageError

SAME_ANATOMY = 100.0  # HU; a guard against gross mistakes, which even streaks of a very low dose pass
ENOUGH = 64  # pixels
VERSION = 1


@dataclass(frozen=True)
class Frame:
    """One image in a file; `key` is the salted hash of the file's path."""

    file: Path
    frame: int
    key: str


@dataclass(frozen=True)
class Block:
    """What one shard is made of.

    Args:
        key: name of the shard.
        root: salted hash of the path that the user named.
        patient: public id or salted pseudonym.
        exam: type of examination.
        series: salted pseudonym.
        shape: height and width.
        frames: full-dose image and its low-dose partner, or alone.
        positions: of each slice, mm.
        kernel: reconstruction kernel.
        spacing: rows and columns, mm.
        thickness: mm.
        dose: of the partner as a fraction, where it is known.
        rescale: slope and intercept by the user's word.
    """

    key: str
    root: str
    patient: str
    exam: str
    series: str
    shape: tuple[int, int]
    frames: tuple[tuple[Frame, ...], ...]
    positions: tuple[float | None, ...]
    kernel: str | None
    spacing: tuple[float, float] | None
    thickness: float | None
    dose: float | None
    rescale: tuple[float, float] | None

    def request(self) -> str:
        """Return the fingerprint of everything that decides what the shard holds, but the files' content."""
        frames = [[(item.key, item.frame) for item in frame] for frame in self.frames]
        labels = [self.patient, self.exam, self.series, self.kernel, self.spacing, self.thickness, self.dose]
        return fingerprint([VERSION, labels, self.shape, self.positions, frames, self.rescale])

    def files(self) -> dict[str, Path]:
        """Return the files by their keys."""
        return {item.key: item.file for frame in self.frames for item in frame}


def make_shard(block: Block, folder: Path, old: Record | None) -> tuple[Record, bool]:
    """Return the record of a shard, and whether it was rewritten.

    It is kept where it was made of the same files: equal in size and time of change, or else in content; and is
    itself what its record says.

    Args:
        block: what it is made of.
        folder: the cache.
        old: its record so far.

    Raises:
        ResourceError: it cannot be written.
    """
    if old is not None and old.request == block.request():
        sources = _unchanged(block, old)
        if sources is not None and shard_is_intact(folder, old):
            return old.model_copy(update={"root": block.root, "sources": sources}), False
    return _written(block, folder), True


def _unchanged(block: Block, old: Record) -> tuple[Source, ...] | None:
    """Return the sources of a record as they are now, or `None` where one's content has changed."""
    files, result = block.files(), []
    if {source.key for source in old.sources} != set(files):
        return None
    for source in old.sources:
        try:
            status = files[source.key].stat()
            if (status.st_size, status.st_mtime_ns) != (source.size, source.mtime_ns):
                if status.st_size != source.size or sha256_file(files[source.key]) != source.sha256:
                    return None
                source = source.model_copy(update={"mtime_ns": status.st_mtime_ns})
        except OSError:
            return None
        result.append(source)
    return tuple(result)


def _written(block: Block, folder: Path) -> Record:
    images, sources, skipped = _read(block)
    kept: list[int] = []
    noise: list[float] = []
    added: list[float] = []
    stacks: list[NDArray[np.float32]] = []
    for index, frame in enumerate(block.frames):
        pieces = [images[item] for item in frame if item in images]
        if len(pieces) < len(frame):
            continue  # the reason stands with the file
        try:
            level = _checked(pieces, block.shape)
        except ImageError as error:
            skipped.append(str(error))
            continue
        kept.append(index)
        noise.append(level)
        added += [_added(*pieces)] if len(pieces) == 2 else []
        stacks.append(np.stack(pieces))
    images.clear()
    empty = np.empty((0, len(block.frames[0]), *block.shape), np.float32)
    values = _lossless(np.stack(stacks) if stacks else empty)
    return Record(
        key=block.key,
        root=block.root,
        request=block.request(),
        sha256=write_shard(folder, block.key, values) if kept else None,
        dtype=values.dtype.name,
        shape=values.shape,
        patient=block.patient,
        exam=block.exam,
        series=block.series,
        kernel=block.kernel,
        spacing=block.spacing,
        thickness=block.thickness,
        dose=block.dose,
        positions=tuple(block.positions[index] for index in kept),
        noise=tuple(noise),
        added=tuple(added),
        sources=tuple(sources),
        skipped=tuple(skipped),
    )


def _read(block: Block) -> tuple[dict[Frame, NDArray[np.float32]], list[Source], list[str]]:
    """Return the images that can be read, what their files are like, and why others cannot be read."""
    images: dict[Frame, NDArray[np.float32]] = {}
    sources: list[Source] = []
    skipped: list[str] = []
    wanted: dict[Path, list[Frame]] = {}
    for item in (piece for frame in block.frames for piece in frame):
        wanted.setdefault(item.file, []).append(item)
    for file, frames in wanted.items():
        try:
            # Before the content: what changes while it is read is noticed the next time.
            status = file.stat()
            found, sha256 = read_pixels(file, [item.frame for item in frames], rescale=block.rescale)
        except OSError as error:
            skipped.append(f"cannot be read ({error.strerror or type(error).__name__})")
            continue
        except ImageError as error:
            skipped.append(str(error))
            sources += _broken(frames[0])
            continue
        images.update(zip(frames, found, strict=True))
        sources.append(
            Source(key=frames[0].key, size=status.st_size, mtime_ns=status.st_mtime_ns, sha256=sha256)
        )
    return images, sources, skipped


def _broken(frame: Frame) -> Iterable[Source]:
    """Yield what an unusable file is like, so that it is looked at again only once it has changed."""
    try:
        status = frame.file.stat()
        yield Source(
            key=frame.key, size=status.st_size, mtime_ns=status.st_mtime_ns, sha256=sha256_file(frame.file)
        )
    except OSError:
        return


def _checked(pieces: Sequence[NDArray[np.float32]], shape: tuple[int, int]) -> float:
    """Return the noise of a slice at full dose, HU; refuse what cannot be used."""
    if any(piece.shape != shape for piece in pieces):
        raise ImageError("differs in size from its series")
    noise = estimate_noise(pieces[0])
    if len(pieces) == 2 and anatomy_difference(*pieces) > SAME_ANATOMY:
        raise ImageError("does not show the same anatomy as its partner of the other dose")
    return noise


def _added(full: NDArray[np.float32], low: NDArray[np.float32]) -> float:
    """Return the standard deviation of what low dose adds, from soft tissue where there is enough of it, HU."""
    tissue = (full > SOFT_TISSUE[0]) & (full < SOFT_TISSUE[1])
    difference = low.astype(np.float64) - full
    return float(np.std(difference[tissue] if tissue.sum() >= ENOUGH else difference))


def _lossless(values: NDArray[np.float32]) -> NDArray[np.int16] | NDArray[np.float32]:
    """Return whole numbers as int16, which takes half the space; anything else as it is."""
    info = np.iinfo(np.int16)
    if values.size and (values.min() < info.min or values.max() > info.max):
        return values
    whole = values.astype(np.int16)
    return whole if np.array_equal(whole, values) else values
