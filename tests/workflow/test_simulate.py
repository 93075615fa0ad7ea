import json
import os
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from invkit.data.images import read_dicom_slices, read_image
from invkit.errors import ArtifactError, DataError, ImageError, ResourceError, UsageError
from invkit.workflow.simulate import INDEX, DoseSettings, _Job, simulate_series

CANARY = "CANARY^7f3a"
SIZE = 32
SETTINGS = DoseSettings(0.25, photons=1e5)


def slice_file(instance, *, series="1.2.3.4", spacing=("2.0", "3.0"), image=None):
    """The bytes of one slice of water, with a patient's name wherever one fits."""
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID, data.SOPInstanceUID = CTImageStorage, generate_uid(entropy_srcs=[series, str(instance)])
    data.SeriesInstanceUID, data.StudyInstanceUID = series, "1.2.3"
    for keyword in ("PatientID", "PatientName", "InstitutionName", "StudyDescription", "AccessionNumber"):
        setattr(data, keyword, CANARY)
    data.PatientBirthDate, data.StudyDate = "19010203", "19040506"
    data.Modality, data.ImageType = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
    data.InstanceNumber, data.SliceThickness, data.KVP = instance, "2.5", "120"
    data.ConvolutionKernel, data.XRayTubeCurrent, data.Exposure = "B30f", 400, 100
    if spacing is not None:
        data.PixelSpacing = list(spacing)
    data.ImagePositionPatient = ["0", "0", str(100 - 2.5 * instance)]
    data.ImageOrientationPatient = ["1", "0", "0", "0", "1", "0"]
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.Rows = data.Columns = SIZE
    data.BitsAllocated = data.BitsStored = 16
    data.HighBit, data.PixelRepresentation = 15, 0
    data.RescaleSlope, data.RescaleIntercept = "1", "-1024"
    image = np.full((SIZE, SIZE), 40 + instance) if image is None else image
    data.PixelData = (image + 1024).astype("<u2").tobytes()
    data["PixelData"].VR = "OW"
    stream = BytesIO()
    dcmwrite(stream, data, enforce_file_format=True)
    return stream.getvalue()


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    for instance in (1, 2, 3):
        (folder / f"{instance}.dcm").write_bytes(slice_file(instance))
    return folder


def written(folder):
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir()) if file.name != ".lock"}


def test_a_series_is_written_at_its_places_with_its_noise(source, tmp_path):
    done = simulate_series(source, tmp_path / "out", SETTINGS, workers=1)
    assert (done.slices, done.made, done.photons) == (3, 3, 1e5)
    before, after = read_dicom_slices(source), read_dicom_slices(tmp_path / "out")
    assert [piece.position for piece in after] == [piece.position for piece in before] == [92.5, 95, 97.5]
    for full, low in zip(before, after, strict=True):
        assert low.spacing == full.spacing == (2.0, 3.0)
        assert (low.thickness, low.kvp, low.kernel) == (2.5, 120, "B30f")
        assert (low.tube_current, low.exposure) == (100, 25)
        assert low.series not in (full.series, "unknown")
        noise = low.image - full.image
        assert 3 < noise.std() < 100
        assert abs(noise.mean()) < noise.std() / 3
    assert not np.array_equal(after[0].image - before[0].image, after[1].image - before[1].image)


def test_what_is_written_is_derived_and_names_nobody(source, tmp_path):
    simulate_series(source, tmp_path / "out", SETTINGS, workers=1)
    old = [dcmread(file) for file in sorted(source.iterdir())]
    new = [dcmread(file) for file in sorted((tmp_path / "out").glob("*.dcm"))]
    for keyword in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"):
        assert not {data[keyword].value for data in new} & {data[keyword].value for data in old}
        assert all(data[keyword].value.is_valid for data in new)
    assert len({data.SeriesInstanceUID for data in new}) == 1
    assert len({data.SOPInstanceUID for data in new}) == 3
    for data in new:
        assert list(data.ImageType) == ["DERIVED", "SECONDARY", "AXIAL"]
        assert "dose 0.25 simulated" in data.DerivationDescription
        assert data.PatientID == read_dicom_slices(source)[0].patient
        assert data.PatientBirthDate == data.StudyDate == ""
    for content in written(tmp_path / "out").values():
        for canary in (b"CANARY", b"7f3a", b"19010203", b"19040506", b"1.2.3.4"):
            assert canary not in content


def test_workers_change_nothing(source, tmp_path):
    threads = torch.get_num_threads()
    simulate_series(source, tmp_path / "one", SETTINGS, workers=1)
    assert torch.get_num_threads() == threads
    done = simulate_series(source, tmp_path / "two", SETTINGS, workers=2)
    assert done.made == 3
    assert written(tmp_path / "one") == written(tmp_path / "two")


@pytest.mark.slow
def test_a_worker_that_dies_is_said(source, tmp_path, monkeypatch):
    # Workers are started anew and do not see this; what they unpickle kills them.
    monkeypatch.setattr(_Job, "__reduce__", lambda job: (os._exit, (9,)))
    with pytest.raises(ResourceError, match="a worker was killed"):
        simulate_series(source, tmp_path / "out", SETTINGS, workers=2)
    monkeypatch.undo()
    assert simulate_series(source, tmp_path / "out", SETTINGS, workers=1).made == 3


def test_what_was_interrupted_goes_on_and_ends_the_same(source, tmp_path):
    simulate_series(source, tmp_path / "whole", SETTINGS, workers=1)
    out, events = tmp_path / "out", []

    def stop(event):
        events.append((event.step, event.steps))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate_series(source, out, SETTINGS, workers=1, progress=stop)
    assert events == [(1, 3)]
    (out / ".0002.dcm.k3j_2").write_bytes(b"half")
    again = simulate_series(source, out, SETTINGS, workers=1)
    assert (again.slices, again.made) == (3, 2)
    assert written(out) == written(tmp_path / "whole")
    assert simulate_series(source, out, SETTINGS, workers=1).made == 0


def test_only_what_changed_is_made_again(source, tmp_path):
    out = tmp_path / "out"
    simulate_series(source, out, SETTINGS, workers=1)
    before = written(out)
    (out / "0002.dcm").write_bytes(before["0002.dcm"][:-1] + b"\0")
    assert simulate_series(source, out, SETTINGS, workers=1).made == 1
    assert written(out) == before
    (source / "1.dcm").write_bytes(slice_file(1, image=np.full((SIZE, SIZE), 7)))  # the last by position
    assert simulate_series(source, out, SETTINGS, workers=1).made == 1
    assert written(out)["0003.dcm"] != before["0003.dcm"]
    (source / "1.dcm").unlink()
    assert simulate_series(source, out, SETTINGS, workers=1).slices == 2
    assert sorted(written(out)) == ["0001.dcm", "0002.dcm", INDEX]


def test_noise_depends_on_seed_and_pixels_only(source, tmp_path):
    def images(name, settings=SETTINGS):
        simulate_series(source, tmp_path / name, settings, workers=1)
        return [piece.image for piece in read_dicom_slices(tmp_path / name)]

    all_three = images("three")
    other = images("other", DoseSettings(0.25, seed=1, photons=1e5))
    assert not any(np.array_equal(a, b) for a, b in zip(all_three, other, strict=True))
    (source / "3.dcm").unlink()
    for a, b in zip(images("two"), all_three[1:], strict=True):
        np.testing.assert_array_equal(a, b)


def test_full_dose_is_the_source(source, tmp_path):
    done = simulate_series(source, tmp_path / "out", DoseSettings(1.0), workers=1)
    assert done.photons is None
    for full, same in zip(read_dicom_slices(source), read_dicom_slices(tmp_path / "out"), strict=True):
        np.testing.assert_array_equal(full.image, same.image)


def test_padding_stays(tmp_path):
    image = np.full((SIZE, SIZE), 40)
    y, x = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    image[np.hypot(y, x) > SIZE / 2] = -1024
    image[16, 16] = -1024  # not padding: within the field of view
    (tmp_path / "one.dcm").write_bytes(slice_file(1, spacing=("2", "2"), image=image))
    simulate_series(tmp_path / "one.dcm", tmp_path / "out", SETTINGS)
    low = read_dicom_slices(tmp_path / "out")[0].image
    assert (low[np.hypot(y, x) > SIZE / 2] == -1024).all()
    assert (low != image).sum() > 0.5 * SIZE**2


def test_npy_gives_npy_and_equal_slices_get_different_noise(tmp_path):
    np.save(tmp_path / "two.npy", np.zeros((2, 40, 24)))
    simulate_series(tmp_path / "two.npy", tmp_path / "out", SETTINGS, spacing=(2.0, 2.0), workers=1)
    first, second = (read_image(tmp_path / "out" / f"000{number}.npy") for number in (1, 2))
    assert first.shape == (1, 1, 40, 24)
    assert not np.array_equal(first, second)


def test_photons_are_calibrated_slice_by_slice(tmp_path):
    noise = np.random.Generator(np.random.Philox(0)).normal(size=(2, 1, 64, 64)) * np.array([5, 20]).reshape(
        2, 1, 1, 1
    )
    np.save(tmp_path / "two.npy", noise)
    done = simulate_series(
        tmp_path / "two.npy", tmp_path / "out", DoseSettings(0.5), spacing=(2.0, 2.0), workers=1
    )
    entries = json.loads((tmp_path / "out" / INDEX).read_text())["slices"]
    photons = [entry["photons"] for entry in entries]
    assert photons[0] > 5 * photons[1] > 0
    assert done.photons == pytest.approx(sum(photons) / 2)


def test_what_cannot_be_done_is_refused_before_anything_is_written(source, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("precious")
    other = tmp_path / "other"
    simulate_series(source, other, SETTINGS, workers=1)
    np.save(tmp_path / "a.npy", np.zeros((20, 20)))
    (tmp_path / "bare.dcm").write_bytes(slice_file(1, spacing=None))
    several = tmp_path / "several"
    several.mkdir()
    for series in ("1.2.3.4", "1.2.3.5"):
        (several / f"{series}.dcm").write_bytes(slice_file(1, series=series))
    new = tmp_path / "new"
    for case, kind, message in (
        ((source, new, DoseSettings(1.5)), UsageError, "quarter"),
        ((source, new, DoseSettings(0.5, kernel="blurry")), UsageError, "no kernel 'blurry'"),
        ((source, tmp_path / "full", SETTINGS), UsageError, "contains other files"),
        ((source, source / "low", SETTINGS), UsageError, "inside the source"),
        ((source, source, SETTINGS), UsageError, "inside the source"),
        ((source, source / "1.dcm", SETTINGS), UsageError, "inside the source"),
        ((source, tmp_path / "a.npy", SETTINGS), UsageError, "is a file"),
        ((source, other, DoseSettings(0.5, photons=1e5)), UsageError, "another simulation"),
        ((tmp_path / "a.npy", new, SETTINGS), DataError, "--spacing"),
        ((tmp_path / "bare.dcm", new, SETTINGS), DataError, "--spacing"),
        ((several, new, SETTINGS), DataError, "2 series"),
        ((tmp_path / "nothing", new, SETTINGS), ImageError, "cannot read"),
    ):
        with pytest.raises(kind, match=message):
            simulate_series(*case)
    with pytest.raises(UsageError, match="--workers"):
        simulate_series(source, new, SETTINGS, workers=0)
    assert not new.exists()
    assert sorted(file.name for file in (tmp_path / "full").iterdir()) == ["thesis.tex"]
    with pytest.raises(ImageError, match="--photons"):
        simulate_series(tmp_path / "a.npy", new, DoseSettings(0.5), spacing=(1.0, 1.0))


@pytest.mark.parametrize(
    "text", ["", "{}", "[1]", '{"schema": "invkit.simulated/1", "slices": [{"file": 3}]}']
)
def test_a_damaged_index_is_refused(text, source, tmp_path):
    (tmp_path / INDEX).write_text(text)
    with pytest.raises(ArtifactError, match="damaged"):
        simulate_series(source / "1.dcm", tmp_path, SETTINGS)


def test_an_index_from_a_stranger_deletes_nothing_outside(source, tmp_path):
    out = tmp_path / "out"
    simulate_series(source, out, SETTINGS, workers=1)
    (tmp_path / "0009.dcm").write_bytes(b"precious")
    found = json.loads((out / INDEX).read_text())
    found["slices"] += [
        {"file": "../0009.dcm", "key": "", "sha256": ""},
        {"file": "/0009.npy", "key": "", "sha256": ""},
    ]
    (out / INDEX).write_text(json.dumps(found))
    assert simulate_series(source, out, SETTINGS, workers=1).made == 0
    assert (tmp_path / "0009.dcm").exists()


def test_a_folder_that_cannot_be_written_is_said(source, tmp_path):
    locked = Path(tmp_path / "locked")
    locked.write_bytes(b"")  # no folder can be made in a file, not even by root
    with pytest.raises(ResourceError):
        simulate_series(source, locked / "out", SETTINGS)
