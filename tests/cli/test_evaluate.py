import csv
import json
import re

import numpy as np
import pytest


@pytest.fixture
def ct(tmp_path):
    """Twelve patients as `.npy`, one slice each."""
    folder = tmp_path / "ct"
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(12):
        smooth = np.kron(random.normal(50, 60, (6, 6)), np.ones((8, 8)))
        np.save(folder / f"{number}.npy", (smooth + random.normal(0, 12, (48, 48))).astype(np.float32))
    return folder


def test_it_prints_a_table_and_writes_every_slice(invoke, stranger, ct, tmp_path):
    table = tmp_path / "slices.csv"
    words = ("evaluate", "stranger", "--plugin", stranger, "--data", ct, "--window", "L", "--part", "all")
    result = invoke(*words, "--csv", table)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert " ".join(lines[0].split()) == "exam patients slices image SSIM PSNR dB RMSE HU VIF VIF swapped"
    for line, image in zip(lines[1:], ("low dose", "denoised", "change"), strict=True):
        assert re.match(rf"not stated +12 +12 +{image} +-?\d", line)
    assert "[" in lines[1]
    assert "Low dose is simulated for 12 of 12 slices" in result.stderr
    with table.open() as stream:
        assert len(list(csv.DictReader(stream))) == 24
    again = invoke(*words, "--csv", table)
    assert (again.exit_code, again.stdout) == (2, "")
    assert "existing files are never overwritten" in again.stderr


def test_it_prints_json(invoke, stranger, ct):
    result = invoke("evaluate", "stranger", "--plugin", stranger, "--data", ct, "--window", "C", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert (found["schema"], found["model"], found["part"]) == ("invkit.evaluate/1", "stranger", "test")
    (exam,) = found["exams"]
    assert (exam["patients"], exam["window"]) == (1, {"center": -600.0, "width": 1500.0})
    assert set(exam["denoised"]) == {"ssim", "psnr_db", "rmse_hu", "vif", "vif_swapped"}
    assert isinstance(exam["denoised"]["ssim"], float)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--data", "CT"], 2, "add --window C"),
        (["--data", "CT", "--window", "Q"], 2, "there is no window 'Q'"),
        (["--data", "CT", "--part", "some"], 2, "there is no part 'some'"),
        (["--data", "CT", "--window", "L", "--dose", "0"], 2, "dose is a fraction in (0, 1]"),
        (["--data", "/no/such/folder"], 3, "does not exist"),
    ],
)
def test_what_goes_wrong_ends_with_a_code_and_a_message(words, code, message, invoke, stranger, ct):
    given = [str(ct) if word == "CT" else word for word in words]
    result = invoke("evaluate", "stranger", "--plugin", stranger, *given)
    assert (result.exit_code, result.stdout) == (code, "")
    assert message in result.stderr
