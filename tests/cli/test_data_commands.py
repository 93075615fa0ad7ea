import json

import numpy as np
import pytest

from invkit.data.slices import load_slices


@pytest.fixture
def folder(tmp_path):
    """Three patients at two doses, one of them with a slice that has no partner."""
    (tmp_path / "ct").mkdir()
    for number in range(3):
        full = np.random.default_rng(number).integers(-50, 50, (2, 32, 32)).astype(np.int16)
        np.save(tmp_path / "ct" / f"doe{number}_full.npy", full)
        np.save(tmp_path / "ct" / f"doe{number}_low.npy", full[: 1 + (number > 0)] + np.int16(3))
    (tmp_path / "ct" / "notes.txt").write_text("x")
    return tmp_path / "ct"


def test_scan_prints_one_json_object(invoke, folder):
    done = invoke("data", "scan", folder, "--json")
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert report["schema"] == "invkit.scan/1"
    assert (report["patients"], report["series"], report["slices"], report["pairs"]) == (3, 6, 11, 5)
    assert report["doses"] == {"full": 6, "low": 5}
    assert {skip["reason"] for skip in report["skipped"]} == {
        "is not a DICOM file",
        "has no partner of the other dose at its position",
    }
    assert report["gaps"] == []
    assert len(report["details"]) == 6


def test_scan_prints_a_table(invoke, folder):
    done = invoke("data", "scan", folder)
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert lines[0].split() == [
        "series",
        "patient",
        "exam",
        "dose",
        "partner",
        "slices",
        "size",
        "spacing",
        "step",
        "kernel",
    ]
    assert sum("patient-002" in line for line in lines) == 2
    assert "3 patients, 6 series, 11 slices: 6 at full dose, 5 at low dose, 5 pairs" in lines
    assert "skipped, 1 x: is not a DICOM file (notes.txt)" in lines
    assert "doe" not in "\n".join(line for line in lines if not line.startswith("skipped"))


def test_prepare_makes_a_cache_and_then_keeps_it(invoke, folder, tmp_path):
    done = invoke("data", "prepare", folder, "--out", tmp_path / "cache", "--json")
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert report["schema"] == "invkit.prepare/1"
    assert (report["patients"], report["slices"], report["pairs"], report["written"]) == (3, 5, 5, 3)
    assert report["split"] == load_slices(tmp_path / "cache").split
    again = invoke("data", "prepare", folder, "--out", tmp_path / "cache", "--workers", 1)
    assert again.exit_code == 0
    assert again.stdout.splitlines()[0] == str((tmp_path / "cache").resolve())
    assert "0 shards written, 3 kept, 0 removed" in again.stdout
    assert "2 train, 1 validation, 0 test patients" in again.stdout
    assert "the test part has no patients" in again.stdout


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["scan", "nowhere"], 3, "nowhere does not exist"),
        (["scan", "CT", "--slope", "1"], 2, "--slope and --intercept together"),
        (["scan", "CT", "--slope", "0", "--intercept", "0"], 2, "slope other than 0"),
        (["scan"], 2, "LDCTBENCH_DATAFOLDER"),
        (["prepare", "CT"], 2, "--out"),
        (["prepare", "CT", "--out", "CT"], 3, "neither empty nor a cache"),
        (["prepare", "CT", "--out", "new", "--split", "x"], 2, "splits are hash-rank, ldct-benchmark"),
        (["prepare", "CT", "--out", "new", "--workers", "0"], 2, "worker"),
    ],
)
def test_what_is_wrong_is_said(invoke, folder, monkeypatch, words, code, message, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LDCTBENCH_DATAFOLDER", raising=False)
    done = invoke("data", *(folder if word == "CT" else word for word in words))
    assert done.exit_code == code
    assert message in " ".join(done.stderr.split())
