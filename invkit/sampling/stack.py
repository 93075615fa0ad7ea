"""Where draws are kept: in memory while they are few, else in a file that has no name and ends with its last user."""

__all__ = ["IN_MEMORY", "Stack", "StackedImages"]

import os
import tempfile
import weakref
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from invkit.errors import ResourceError
from invkit.sampling.draws import CHUNK

IN_MEMORY = 2**25  # bytes: 16 images of 512 x 512


class Stack:
    """Images of one size, filled once from first to last and then read as often as one likes; float32, on the CPU.

    Like a tensor it has a length and can be sliced. Of a file only the part that is written or read is mapped, and a slice has
    memory of its own, so going through all images part by part takes no more memory however many there are. `tensor` is all of
    them: from a file it is mapped, and its pages are let go of with the tensor.

    Args:
        count: how many images.
        size: of each, `(1, H, W)`.
        folder: where the file lies, if one is needed; by default where the system keeps temporary files.

    Raises:
        ResourceError: the file cannot be made, or there is too little space for it.
    """

    dtype = torch.float32

    def __init__(self, count: int, size: Iterable[int], folder: Path | None = None) -> None:
        self.shape = (count, *size)
        self._filled = 0
        self._row = 4 * int(torch.Size(self.shape[1:]).numel())
        self._memory: Tensor | None = None
        if count * self._row <= IN_MEMORY:
            self._memory = torch.empty(self.shape, dtype=torch.float32)
            return
        self._file = _nameless(count * self._row, folder)
        weakref.finalize(self, self._file.close)

    @classmethod
    def of(cls, images: Iterable[Tensor], count: int, folder: Path | None = None) -> "Stack":
        """Return a stack of images that come in parts `(n, 1, H, W)`, `count` altogether and at least one."""
        stack: Stack | None = None
        for part in images:
            stack = cls(count, part.shape[1:], folder) if stack is None else stack
            stack.append(part)
        assert stack is not None
        return stack

    @classmethod
    def around(cls, images: Tensor) -> "Stack":
        """Return a stack whose images `(count, 1, H, W)`, float32 on the CPU, stay where they are, such as in a mapped file."""
        stack = cls(0, images.shape[1:])
        stack.shape, stack._filled, stack._memory = tuple(images.shape), len(images), images
        return stack

    def append(self, images: Tensor) -> None:
        """Put images `(n, 1, H, W)` behind those that are there."""
        end = self._filled + len(images)
        assert end <= len(self) and tuple(images.shape[1:]) == self.shape[1:]
        plain = images.detach().to("cpu", torch.float32)
        if self._memory is not None:
            self._memory[self._filled : end] = plain
        else:
            self._mapped("r+", self._filled, len(images))[:] = plain.numpy()
        self._filled = end

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> Tensor:
        """Return some of the images, `(n, 1, H, W)`."""
        if self._memory is not None:
            return self._memory[rows]
        wanted = range(len(self))[rows]
        if not wanted:
            return torch.empty(0, *self.shape[1:])
        first, last = sorted((wanted[0], wanted[-1]))
        part = self._mapped("r", first, last - first + 1)
        return torch.from_numpy(np.array(part[[row - first for row in wanted]] if wanted.step != 1 else part))

    @property
    def tensor(self) -> Tensor:
        """All images, `(count, 1, H, W)`, not to be changed."""
        if self._memory is not None:
            return self._memory
        # A private mapping: who changes it all the same changes no one else's.
        return torch.from_numpy(self._mapped("c", 0, len(self)))

    def _mapped(self, mode: Literal["r", "r+", "c"], first: int, count: int) -> NDArray[Any]:
        """Return some rows of the file, in memory only while they are used."""
        return np.memmap(self._file, np.float32, mode, first * self._row, (count, *self.shape[1:]))

    def parts(self) -> Iterator[Tensor]:
        """Yield all images in order, few at a time."""
        for start in range(0, len(self), CHUNK):
            yield self[start : start + CHUNK]


def _nameless(size: int, folder: Path | None) -> BinaryIO:
    """Return a new file of this size that has no name where the system can do that, and goes when it is closed."""
    try:
        file = tempfile.TemporaryFile(prefix=".draws-", dir=folder)  # noqa: SIM115
        try:
            # Writing to a mapped page that there is no space for would kill the process.
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                file.truncate(size)
        except OSError:
            file.close()
            raise
    except OSError as error:
        place = folder or Path(tempfile.gettempdir())
        raise ResourceError(
            f"cannot keep {size / 1e6:.0f} MB of samples in {place}: {error.strerror or error}. Free some space, choose "
            "another folder (--out, TMPDIR), or draw fewer samples"
        ) from None
    return file


class StackedImages:
    """The stacks of several images side by side, `(N, B, 1, H, W)`, to be saved few draws at a time.

    Args:
        stacks: one for each of the B images, equally long.
    """

    dtype = torch.float32

    def __init__(self, stacks: Sequence[Stack]) -> None:
        self._stacks = tuple(stacks)
        count, *size = stacks[0].shape
        self.shape = (count, len(stacks), *size)

    def parts(self) -> Iterator[Tensor]:
        """Yield all draws in order, few at a time, `(n, B, 1, H, W)`."""
        step = max(1, CHUNK // len(self._stacks))
        for start in range(0, self.shape[0], step):
            yield torch.stack([stack[start : start + step] for stack in self._stacks], dim=1)
