"""Slices are put in order, and matched across doses, by where they lie."""

import numpy as np
import pytest
from ct_layouts import STEP, pair, slice_file, write_series
from ct_scan import described, reasons

from invkit.data.prepare.layouts import find_series
from invkit.data.prepare.pairs import match


def test_gaps_copies_and_second_slices_are_reported(tmp_path):
    folder = write_series(tmp_path, 0, slices=1)
    for index in (1, 2, 5, 6):
        file = slice_file(
            pair(0, index)[0], index=index, uid="1.2.5", sop=f"1.2.5.{index}", PatientID="Doe^Jane"
        )
        (folder / f"{index}.dcm").write_bytes(file)
    (folder / "copy.dcm").write_bytes((folder / "1.dcm").read_bytes())
    again = slice_file(pair(0, 2)[0], index=2, uid="1.2.5", sop="1.2.5.99", PatientID="Doe^Jane")
    (folder / "second.dcm").write_bytes(again)
    report = described(tmp_path)
    assert report["slices"] == 5
    assert report["gaps"] == [
        {"patient": "patient-001", "series": "series-001", "start": 6.0, "stop": 15.0, "missing": 2}
    ]
    found = reasons(report)
    assert found["copy.dcm"] == "is a copy of a slice that is already there"
    assert found["second.dcm"] == "is a second slice at the position of another one"


def test_tilted_slices_are_matched_along_their_normal(tmp_path):
    angle = np.deg2rad(20)
    axes = ["1", "0", "0", "0", f"{np.cos(angle):.8f}", f"{np.sin(angle):.8f}"]
    for kind, (uid, low) in {"full": ("1.2.7", False), "low": ("1.2.6", True)}.items():
        (tmp_path / kind).mkdir()
        for index in range(3):
            # The table moves along z, so the corner does too, and the normal is not z.
            place = ["0", "0", f"{index * 4:.4f}"]
            pixels = pair(1, index)[low]
            file = slice_file(
                pixels,
                index=index,
                uid=uid,
                sop=f"{uid}.{index}",
                ImagePositionPatient=place,
                ImageOrientationPatient=axes,
            )
            (tmp_path / kind / f"{(index + low) % 3}.dcm").write_bytes(file)
    full, low = (find_series([tmp_path / kind]).series for kind in ("full", "low"))
    assert len(full) == len(low) == 1
    assert [item.position for item in full[0].slices] == pytest.approx(
        [0, 4 * np.cos(angle), 8 * np.cos(angle)]
    )
    report = described(f"{tmp_path / 'full'},{tmp_path / 'low'}")
    assert report["pairs"] == 3


def test_slices_shifted_in_their_plane_are_no_partners(tmp_path):
    write_series(tmp_path / "a", 0)
    write_series(tmp_path / "b", 0, low=True, uid="1.2.6", ImagePositionPatient=["-100", "-99.5", "3"])
    (full,), (low,) = (find_series([tmp_path / name]).series for name in "ab")
    assert match(full, low) == []


def test_positions_match_within_a_tenth_of_a_step(tmp_path):
    write_series(tmp_path / "a", 0, slices=3)
    for shift, count in ((0.2, 3), (0.4, 0)):
        folder = tmp_path / f"b{count}"
        folder.mkdir()
        for index in range(3):
            place = ["-100", "-100", str(index * STEP + shift)]
            file = slice_file(
                pair(0, index)[1], index=index, uid="1.2.6", sop=f"1.2.6.{index}", ImagePositionPatient=place
            )
            (folder / f"{index}.dcm").write_bytes(file)
        (full,), (low,) = (find_series([path]).series for path in (tmp_path / "a", folder))
        assert len(match(full, low)) == count
