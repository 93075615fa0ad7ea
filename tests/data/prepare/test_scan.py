"""Every layout that is recognised, which dose its series have, and what a scan says of it."""

import pytest
from ct_layouts import PATIENTS, STEP, write_challenge, write_series, write_tcia
from ct_scan import described, pairs_of, reasons

from invkit.data.exam import dose_words
from invkit.data.prepare.scan import scan
from invkit.errors import DataError, UsageError


def assert_paired_by_position(pairs, count):
    assert len(pairs) == count
    for found in pairs:
        assert found.slices
        assert all(full.position == low.position for full, low in found.slices)
        assert [full.position for full, _ in found.slices] == sorted(
            full.position for full, _ in found.slices
        )


def test_the_tcia_download(tmp_path):
    write_tcia(tmp_path)
    report = described(tmp_path)
    assert (report["patients"], report["series"], report["slices"], report["pairs"]) == (6, 12, 36, 18)
    assert report["doses"] == {"full": 18, "low": 18}
    assert report["layouts"] == ["ldct-and-projection-data"]
    assert report["exams"] == {"abdomen": 6}
    assert report["kernels"] == ["B30f"]
    assert report["spacings"] == [(0.8, 0.8)]
    assert report["gaps"] == []
    assert set(reasons(report).values()) == {"holds projections, not slices"}
    assert {row["patient"] for row in report["details"]} == set(PATIENTS)
    assert {row["fraction"] for row in report["details"] if row["dose"] == "low"} == {0.25}
    assert {row["step"] for row in report["details"]} == {STEP}
    # Names run the other way at low dose: partners are found by position.
    assert_paired_by_position(pairs_of(tmp_path), 6)
    (first, *_) = pairs_of(tmp_path)
    assert [full.file.name for full, _ in first.slices] == [low.file.name for _, low in first.slices][::-1]


@pytest.mark.parametrize("inside", ["", "LDCT-and-Projection-data", "LDCT-and-Projection-data/L002"])
def test_any_folder_of_the_download_can_be_named(tmp_path, inside):
    write_tcia(tmp_path, PATIENTS[:2], slices=2)
    report = described(tmp_path / inside)
    assert report["pairs"] == 2 * report["patients"] == (2 if inside.endswith("L002") else 4)
    assert {row["patient"] for row in report["details"]} <= set(PATIENTS[:2])


def test_chests_are_at_a_tenth_of_the_dose(tmp_path):
    write_tcia(tmp_path, ("C001", "N001"), slices=1)
    rows = [row for row in described(tmp_path)["details"] if row["dose"] == "low"]
    assert {(row["patient"], row["exam"], row["fraction"]) for row in rows} == {
        ("C001", "chest", 0.1),
        ("N001", "head", 0.25),
    }


def test_the_folder_of_the_environment(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LDCTBENCH_DATAFOLDER", raising=False)
    with pytest.raises(UsageError, match="LDCTBENCH_DATAFOLDER"):
        scan()
    write_tcia(tmp_path / "data", PATIENTS[:2], slices=1)
    monkeypatch.setenv("LDCTBENCH_DATAFOLDER", str(tmp_path / "data"))
    assert described()["pairs"] == described("ldct")["pairs"] == 2
    monkeypatch.setenv("LDCTBENCH_DATAFOLDER", str(tmp_path / "gone"))
    with pytest.raises(DataError, match="does not exist"):
        scan(["ldct"])


@pytest.mark.parametrize("suffix", [".IMA", ".dcm"])
def test_the_2016_challenge(tmp_path, suffix):
    write_challenge(tmp_path, PATIENTS[:3], suffix=suffix)
    write_challenge(tmp_path, PATIENTS[:2], variant="1mm", suffix=suffix)
    report = described(tmp_path)
    assert (report["patients"], report["series"], report["pairs"]) == (3, 10, 15)
    assert report["layouts"] == ["challenge-2016"]
    assert not report["skipped"]
    found = pairs_of(tmp_path)
    assert_paired_by_position(found, 5)
    for each in found:
        assert each.full.first.thickness == each.low.first.thickness
        assert each.dose == 0.25
    inner = tmp_path / "L001" / "full_3mm_sharp"
    assert described(f"{inner},{tmp_path / 'L001' / 'quarter_3mm_sharp'}")["details"][0]["patient"] == "L001"


def test_two_folders_named_as_full_and_low(tmp_path):
    # Another patient id, series, kernel and file names: the call says that they belong together.
    write_series(tmp_path / "a", 1, slices=4)
    write_series(
        tmp_path / "b", 1, slices=3, low=True, uid="1.2.6", patient="Roe^R", ConvolutionKernel="B45f"
    )
    report = described(f"{tmp_path / 'a'},{tmp_path / 'b'}")
    assert (report["patients"], report["pairs"], report["doses"]) == (1, 3, {"full": 4, "low": 3})
    assert report["layouts"] == ["pair"]
    assert list(reasons(report).values()) == ["has no partner of the other dose at its position"]
    assert_paired_by_position(pairs_of(f"{tmp_path / 'a'},{tmp_path / 'b'}"), 1)


def test_a_folder_of_two_series_of_one_patient(tmp_path):
    write_series(tmp_path, 2, uid="1.2.7", Exposure="200")
    write_series(tmp_path, 2, low=True, uid="1.2.6", Exposure="50")
    report = described(tmp_path)
    assert report["pairs"] == 3
    assert {(row["dose"], row["fraction"], row["told_by"]) for row in report["details"]} == {
        ("full", None, "exposure"),
        ("low", 0.25, "exposure"),
    }


def test_without_exposure_the_noise_tells(tmp_path):
    write_series(tmp_path, 2, uid="1.2.7")
    write_series(tmp_path, 2, low=True, uid="1.2.6")
    (found,) = pairs_of(tmp_path)
    assert found.told_by == "noise"
    assert found.dose is None
    assert found.full.first.series != found.low.first.series
    assert all(full.file.name.endswith("-7.dcm") for full, _ in found.slices)


def test_the_series_description_tells(tmp_path):
    write_series(tmp_path, 2, uid="1.2.7", SeriesDescription="Full Dose Images")
    write_series(tmp_path, 2, low=True, uid="1.2.6", SeriesDescription="Low Dose Images")
    (found,) = pairs_of(tmp_path)
    assert found.told_by == "the series' description"


def test_other_anatomy_or_kernel_or_place_is_no_partner(tmp_path):
    write_series(tmp_path / "anatomy", 2, uid="1.2.7", Exposure="200")
    write_series(tmp_path / "anatomy", 3, low=True, uid="1.2.6", Exposure="50")
    write_series(tmp_path / "kernel", 2, uid="1.2.7")
    write_series(tmp_path / "kernel", 2, low=True, uid="1.2.6", ConvolutionKernel="B70f")
    write_series(tmp_path / "shift", 2, uid="1.2.7")
    write_series(tmp_path / "shift", 2, low=True, uid="1.2.6", PixelSpacing=["0.7", "0.7"])
    for name in ("anatomy", "kernel", "shift"):
        report = described(tmp_path / name)
        assert (report["pairs"], report["doses"]) == (0, {"full": 6, "low": 0}), name


def test_alike_series_whose_dose_nothing_tells_are_used_once(tmp_path):
    write_series(tmp_path, 2, uid="1.2.7")
    write_series(tmp_path, 2, uid="1.2.6")
    report = described(tmp_path)
    assert (report["pairs"], report["slices"]) == (0, 3)
    assert "FULL,LOW" in report["skipped"][0]["reason"]


def test_low_dose_without_its_partner_is_not_taken_for_full_dose(tmp_path):
    write_tcia(tmp_path, PATIENTS[:2], slices=2)
    write_tcia(tmp_path, ["L009"], slices=2, kinds=("Low",))
    report = described(tmp_path)
    assert report["patients"] == 2
    assert any("without a full-dose partner" in skip["reason"] for skip in report["skipped"])


def test_a_screening_series_is_taken_as_it_is(tmp_path):
    write_series(tmp_path, 1, SeriesDescription="LOW DOSE CHEST")
    assert described(tmp_path)["doses"] == {"full": 3, "low": 0}


def test_any_single_folder_is_full_dose(tmp_path):
    write_series(tmp_path / "deep" / "er", 1, BodyPartExamined="CHEST")
    write_series(tmp_path / "b", 2, uid="1.2.6", patient="Roe^R", BodyPartExamined="HEAD")
    report = described(tmp_path)
    assert (report["patients"], report["series"], report["doses"]) == (2, 2, {"full": 6, "low": 0})
    assert report["exams"] == {"chest": 1, "head": 1}
    assert {row["patient"] for row in report["details"]} == {"patient-001", "patient-002"}


@pytest.mark.parametrize(
    ("name", "role", "rest"),
    [
        ("1.000000-Low Dose Images-39882", "low", "1 000000 images 39882"),
        ("1.000000-Full dose images-95330", "full", "1 000000 images 95330"),
        ("full_3mm_sharp", "full", "3mm sharp"),
        ("quarter_1mm", "low", "1mm"),
        ("full", "full", ""),
        ("p1_low", "low", "p1"),
        ("Routine-Dose", "full", ""),
        ("NDCT", "full", ""),
    ],
)
def test_words_for_the_dose(name, role, rest):
    found = dose_words(name)
    assert (found.role, found.rest) == (role, rest)


@pytest.mark.parametrize(
    "name", ["LDCT-and-Projection-data", "below", "careful", "full and low dose", "slow", ""]
)
def test_names_that_say_nothing_of_the_dose(name):
    assert dose_words(name) is None
