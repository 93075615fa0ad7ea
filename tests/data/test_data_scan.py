"""Every layout that is recognised, what a scan says of it, and what it keeps to itself."""

import json

import numpy as np
import pytest
from ct_files import content, ct, enhanced_ct
from ct_layouts import PATIENTS, STEP, pair, slice_file, write_challenge, write_series, write_tcia
from pydicom.uid import ExplicitVRLittleEndian
from test_dicom_privacy import CANARY, assert_silent, marked

from invkit.data.exam import dose_words
from invkit.data.layouts import find_series
from invkit.data.pairs import arrange, match
from invkit.data.scan import scan
from invkit.errors import DataError, UsageError


def described(*paths, **options):
    report = scan(paths, **options).describe()
    assert json.loads(json.dumps(report, allow_nan=False))["patients"] == report["patients"]
    return report


def pairs_of(*paths):
    return arrange(find_series(paths)).pairs


def reasons(report):
    return {skip["file"].rpartition("/")[2]: skip["reason"] for skip in report["skipped"]}


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


def test_arrays_are_paired_by_name(tmp_path):
    for number in range(3):
        full, low = pair(number, 0)
        for kind, image in (("full", full), ("low", low)):
            (tmp_path / kind).mkdir(exist_ok=True)
            np.save(tmp_path / kind / f"doe-{number}.npy", np.stack([image, image]))
        np.save(tmp_path / f"roe-{number}_full.npy", full)
        np.save(tmp_path / f"roe-{number}_low.npy", low)
    report = described(tmp_path)
    assert (report["patients"], report["pairs"], report["layouts"]) == (6, 9, ["arrays"])
    spec = f"{tmp_path / 'full' / 'doe-0.npy'},{tmp_path / 'roe-0_low.npy'}"
    assert described(spec)["pairs"] == 1
    assert described(f"{tmp_path / 'full'},{tmp_path / 'low'}")["pairs"] == 6
    assert "doe" not in json.dumps(report)


def test_numbered_arrays_are_slices_of_their_folder(tmp_path):
    stack = np.stack([pair(0, index)[0] for index in range(3)])
    np.save(tmp_path / "doe.npy", stack)
    for number, image in enumerate(stack, 1):
        (tmp_path / "low").mkdir(exist_ok=True)
        np.save(tmp_path / "low" / f"{number:04d}.npy", image + np.int16(5))
    report = described(f"{tmp_path / 'doe.npy'},{tmp_path / 'low'}")
    assert (report["patients"], report["series"], report["pairs"]) == (1, 2, 3)


def test_arrays_of_something_else_are_skipped(tmp_path):
    np.save(tmp_path / "fine.npy", pair(0, 0)[0])
    np.save(tmp_path / "cube.npy", np.zeros((2, 2, 2, 8, 8)))
    np.save(tmp_path / "text.npy", np.array(["a", "b"]))
    np.save(tmp_path / "object.npy", np.array([{}], dtype=object), allow_pickle=True)
    (tmp_path / "cut.npy").write_bytes((tmp_path / "fine.npy").read_bytes()[:1000])
    found = reasons(described(tmp_path))
    assert set(found) == {"cube.npy", "text.npy", "object.npy", "cut.npy"}


def test_nifti_without_its_reader_names_the_extra(tmp_path, monkeypatch):
    np.save(tmp_path / "fine.npy", pair(0, 0)[0])
    (tmp_path / "a.nii.gz").write_bytes(b"x")
    monkeypatch.setitem(__import__("sys").modules, "nibabel", None)
    assert reasons(described(tmp_path))["a.nii.gz"] == "is NIfTI. To read it: pip install 'invkit[nifti]'"


@pytest.mark.parametrize("axes", [("R", "A", "S"), ("L", "P", "S"), ("L", "A", "I"), ("S", "R", "A")])
def test_nifti_is_turned_as_dicom_images_are(tmp_path, axes):
    nibabel = pytest.importorskip("nibabel")
    from invkit.data.scan_pixels import read_pixels

    random = np.random.default_rng(0)
    # In the axes right, anterior, superior.
    truth = random.integers(-1000, 1000, (12, 16, 5)).astype(np.int16)
    affine = np.diag([0.5, 0.75, 2.0, 1.0])
    turn = nibabel.orientations.ornt_transform(
        nibabel.orientations.axcodes2ornt(("R", "A", "S")), nibabel.orientations.axcodes2ornt(axes)
    )
    image = nibabel.Nifti1Image(truth, affine).as_reoriented(turn)
    nibabel.save(image, tmp_path / "a.nii.gz")
    (series,) = find_series([tmp_path]).series
    assert (series.first.rows, series.first.cols, series.first.spacing) == (16, 12, (0.75, 0.5))
    assert (len(series.slices), series.step) == (5, 2.0)
    images, _ = read_pixels(tmp_path / "a.nii.gz", [1, 3])
    for found, index in zip(images, (1, 3), strict=True):
        np.testing.assert_array_equal(found, truth[::-1, ::-1, index].T)


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


def test_frames_of_an_enhanced_file_are_slices(tmp_path):
    pixels = np.stack([pair(0, index)[0] + 1024 for index in range(3)]).astype(np.int16)
    file = content(enhanced_ct(pixels, [0, 3, 6], [(1, -1024)]), ExplicitVRLittleEndian)
    (tmp_path / "a.dcm").write_bytes(file)
    (series,) = find_series([tmp_path]).series
    assert [(item.frame, item.frames, item.position) for item in series.slices] == [
        (0, 3, 0),
        (1, 3, 3),
        (2, 3, 6),
    ]


def test_missing_rescale_is_taken_from_the_user_alone(tmp_path):
    write_series(tmp_path / "a", 0, slices=2)
    write_series(tmp_path / "b", 1, slices=2, uid="1.2.6", RescaleSlope=None, RescaleIntercept=None)
    report = described(tmp_path)
    assert report["slices"] == 2
    assert all("--slope" in skip["reason"] for skip in report["skipped"])
    assert described(tmp_path, rescale=(1, -1024))["slices"] == 4
    with pytest.raises(UsageError, match="slope"):
        scan([tmp_path], rescale=(0, 1))
    # One that is there but unreadable stays refused.
    broken = ct(RescaleSlope="1")
    broken.RescaleIntercept = ""
    (tmp_path / "broken.dcm").write_bytes(content(broken))
    assert "Rescale Intercept" in reasons(described(tmp_path, rescale=(1, -1024)))["broken.dcm"]


def test_what_cannot_be_used_is_skipped_with_its_reason(tmp_path):
    folder = write_series(tmp_path, 0)
    whole = slice_file(pair(0, 7)[0], index=7, uid="1.2.5", sop="1.2.5.7")
    faults = {
        "cut.dcm": (whole[:-100], "is cut off"),
        "empty.dcm": (b"", "is not a DICOM file"),
        "notes.txt": (b"Jane Doe", "is not a DICOM file"),
        "zip.zip": (b"PK\x03\x04....", "is a zip archive"),
        "scout.dcm": (content(ct(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])), "is a localizer"),
        "mr.dcm": (content(ct(Modality="MR")), "is of modality MR"),
        "mono.dcm": (content(ct(PhotometricInterpretation="RGB")), "is no grey image"),
        "slope.dcm": (content(ct(slope="0")), "has Rescale Slope 0"),
    }
    for name, (data, _) in faults.items():
        (folder / name).write_bytes(data)
    (folder / "loop").symlink_to(folder)
    (folder / "gone.dcm").symlink_to(folder / "nothing")
    found = reasons(described(tmp_path))
    assert {name: found[name].startswith(reason) for name, (_, reason) in faults.items()} == dict.fromkeys(
        faults, True
    )
    assert "cannot be read" in found["gone.dcm"]


def test_nothing_usable_says_why(tmp_path):
    with pytest.raises(DataError, match="no file"):
        scan([tmp_path])
    for index in range(3):
        (tmp_path / f"{index}").write_bytes(content(ct(Modality="MR")))
    with pytest.raises(DataError, match=r"3 x: is of modality MR"):
        scan([tmp_path])


def test_no_patient_attribute_comes_out(tmp_path, capfd, caplog):
    data = marked()
    data.PixelSpacing = ["0.5", "0.75"]
    whole = content(data)
    (tmp_path / "a.dcm").write_bytes(whole)
    # A UID that pydicom would quote in a warning.
    (tmp_path / "b.dcm").write_bytes(whole.replace(b"1.99.424242424242", b"1.99.42424242424x"))
    caplog.clear()
    report = scan([tmp_path])
    assert_silent(json.dumps(report.describe()))
    assert len(report.found.series) == 2
    assert CANARY not in repr(report.found.series[0].slices)
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


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
