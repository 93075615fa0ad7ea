"""Mutated DICOM files: each gives valid slices or one ImageError, and says nothing else."""

import random
from importlib import resources

import numpy as np
import pytest
from ct_files import content, ct, enhanced_ct, stored_pixels
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from invkit.data.dicom.read import decode
from invkit.errors import ImageError

EXTREMES = [
    b"\0\0\0\0",
    b"\xff\xff\xff\xff",
    b"\xfe\xff\xff\xff",
    b"\0\0\0\x80",
    b"\x01\0\0\0",
    b"\xff\x7f\0\0",
]
TOKENS = [
    b"SQ",
    b"OW",
    b"UN",
    b"DS",
    b"US",
    b"\x28\x00\x10\x00",
    b"\xe0\x7f\x10\x00",
    b"\xfe\xff\x00\xe0",
    b"nan",
    b"1e99",
]


def seeds():
    compressed = ct()
    compressed.compress(RLELossless, generate_instance_uid=False)
    frames = np.stack([stored_pixels(8, 8)] * 3)
    shipped = resources.files("pydicom") / "data" / "test_files"
    return [
        content(ct(), ExplicitVRLittleEndian),
        content(ct(), ImplicitVRLittleEndian),
        content(ct(), ExplicitVRBigEndian),
        content(ct(), DeflatedExplicitVRLittleEndian),
        content(compressed, RLELossless),
        content(enhanced_ct(frames, [1, 2, 3], [(1, -1024)])),
        content(ct(), ExplicitVRLittleEndian, preamble=False),
        (shipped / "CT_small.dcm").read_bytes(),
        (shipped / "J2K_pixelrep_mismatch.dcm").read_bytes(),
    ]


def mutant(whole, chance):
    """One to four changes, most of them in the header."""
    data = bytearray(whole)
    for _ in range(chance.choice([1, 1, 2, 4])):
        place = chance.randrange(min(len(data), 3000) if chance.random() < 0.9 else len(data))
        match chance.randrange(7):
            case 0:
                data[place] ^= 1 << chance.randrange(8)
            case 1:
                data[place] = chance.randrange(256)
            case 2:
                data[place : place + 4] = chance.choice(EXTREMES)
            case 3:
                token = chance.choice(TOKENS)
                data[place : place + len(token)] = token
            case 4:
                del data[place : place + chance.choice([1, 2, 8, 64])]
            case 5:
                data[place:place] = data[place : place + chance.choice([1, 4, 32, 512])]
            case 6:
                if chance.random() < 0.3:
                    del data[place:]
        if not data:
            break
    return bytes(data)


def check(number):
    starts = seeds()
    accepted, refusals = 0, []
    for index in range(number):
        chance = random.Random(index)
        try:
            slices = decode(mutant(starts[index % len(starts)], chance))
        except ImageError as error:
            refusals.append(error)
            continue
        accepted += 1
        for piece in slices:
            assert piece.image.ndim == 2
            assert piece.image.dtype == np.float32
            assert np.isfinite(piece.image).all()
            assert -1024 <= piece.image.min() <= piece.image.max() <= 65535
            assert piece.spacing is None or min(piece.spacing) > 0
    assert all(str(error) for error in refusals)
    # pydicom's own error can quote the file.
    assert {error.__context__ for error in refusals} == {None}
    return accepted


def test_300_mutants(capfd, caplog):
    accepted = check(300)
    # Both outcomes must occur, or the mutations test nothing.
    assert 50 < accepted < 250
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


@pytest.mark.slow
def test_3000_mutants(capfd, caplog):
    check(3000)
    assert capfd.readouterr() == ("", "")
    assert not caplog.records
