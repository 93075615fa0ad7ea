"""A program that reads a DICOM file and writes another, given as a command line."""

__all__ = ["PREFIX", "from_program"]

import hashlib
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from invkit.data.dicom.read import read_dicom_slices
from invkit.data.dicom.slice import DicomSlice
from invkit.data.dicom.write import derived_ct, derived_uid
from invkit.denoisers.formats.found import Found
from invkit.denoisers.formats.opaque import Opaque
from invkit.denoisers.formats.reference import PROGRAM as PREFIX
from invkit.errors import DenoiserError, ImageError, UsageError

SECONDS = 600  # that one image may take
SPACING = 0.7  # mm, where nothing else is known


def from_program(command: str) -> Found:
    """Return a command line with `{input}` and `{output}` as a denoiser in HU; no shell runs it.

    The program reads one DICOM slice, `{input}`, and writes another of its size, `{output}`. DICOM holds whole HU, so differences
    below 1 HU are rounded.

    Raises:
        UsageError: `{input}` or `{output}` is missing, or there is no such program.
    """
    words = shlex.split(command.removeprefix(PREFIX))
    if not any("{input}" in word for word in words) or not any("{output}" in word for word in words):
        raise UsageError(
            f"{command!r} must name {{input}} and {{output}}, the files that the program reads and writes"
        )
    program = shutil.which(words[0])
    if program is None:
        raise UsageError(f"there is no program {words[0]!r}: give its path, or put its folder on PATH")
    identity = hashlib.sha256(Path(program).read_bytes() + "\0".join(words).encode()).hexdigest()
    return Found(Opaque(_Program((program, *words[1:])), identity, arrays=True))


class _Program:
    def __init__(self, words: tuple[str, ...]) -> None:
        self.words = words

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Return what the program makes of an image, `(H, W)`, HU."""
        with tempfile.TemporaryDirectory() as folder:
            given, made = Path(folder, "input.dcm"), Path(folder, "output.dcm")
            given.write_bytes(
                derived_ct(
                    image.astype(np.float32),
                    DicomSlice(image, series="invkit", patient="unknown"),
                    spacing=(SPACING, SPACING),
                    instance=1,
                    series=derived_uid("invkit", "series"),
                    uid=derived_uid("invkit", hashlib.sha256(image.tobytes()).hexdigest()),
                    dose=1.0,
                    description="a test image",
                )
            )
            words = [
                word.replace("{input}", str(given)).replace("{output}", str(made)) for word in self.words
            ]
            try:
                ran = subprocess.run(words, capture_output=True, timeout=SECONDS, check=False)
            except (OSError, subprocess.TimeoutExpired) as error:
                raise DenoiserError(f"{self.words[0]} did not run: {error}") from None
            if ran.returncode != 0 or not made.exists():
                said = ran.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["nothing"]
                raise DenoiserError(
                    f"{self.words[0]} ended with {ran.returncode} and {'no' if not made.exists() else 'an'} output file; it said: "
                    f"{said[0][:300]}"
                )
            try:
                return read_dicom_slices(made)[0].image
            except ImageError as error:
                raise DenoiserError(f"what {self.words[0]} wrote cannot be read: {error}") from None
