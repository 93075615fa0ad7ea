"""Zip archives of CT slices: read in memory, within limits, nothing written."""

import io
import os
import zipfile

import pytest
from ct_files import content, ct, stored_pixels

from invkit.data.dicom import archive
from invkit.data.dicom.archive import read_members, shown
from invkit.data.dicom.read import read_slices
from invkit.data.images import read_image
from invkit.errors import ImageError

SLICE = content(ct())


def zipped(files, method=zipfile.ZIP_DEFLATED):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as target:
        for name, data in files.items():
            target.writestr(name, data)
    return stream.getvalue()


@pytest.fixture
def write(tmp_path):
    def to_path(files, **options):
        path = tmp_path / "scan.zip"
        path.write_bytes(files if isinstance(files, bytes) else zipped(files, **options))
        return path

    return to_path


def positioned(position):
    return content(
        ct(stored_pixels(8, 8, low=1024 + position), ImagePositionPatient=["0", "0", str(position)])
    )


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_series_in_a_zip(write, method):
    path = write(
        {"x/3.dcm": positioned(5), "x/y/1.dcm": positioned(9), "2.dcm": positioned(1), "note.txt": "x"}
    )
    image = read_image(path)
    assert image.shape == (3, 1, 8, 8)
    assert image[:, 0, 0, 0].tolist() == [1, 5, 9]


def test_zip_in_a_folder_and_in_a_zip(write, tmp_path):
    path = write({"inner.zip": zipped({"a/1.dcm": SLICE}), "z.txt": b"x"})
    assert read_image(path).shape[0] == 1
    assert read_image(tmp_path).shape[0] == 1
    assert read_slices(path).skipped == (("z.txt", "is not a DICOM file"),)
    names = [member.name for member in read_members(path)]
    assert names == ["inner.zip/a/1.dcm", "z.txt"]


def test_zips_are_opened_three_deep_only(write):
    data = zipped({"1.dcm": SLICE})
    for _ in range(2):
        data = zipped({"inner.zip": data})
    assert read_image(write(data)).shape[0] == 1
    with pytest.raises(ImageError, match="more than 3 archives deep"):
        read_image(write(zipped({"inner.zip": data})))


@pytest.mark.parametrize("name", ["../x.dcm", "/etc/x.dcm", "a/../../x.dcm", "..\\x.dcm"])
def test_names_that_leave_the_archive_are_refused_and_nothing_is_written(write, tmp_path, name):
    path = write({name: SLICE, "good.dcm": SLICE})
    before = sorted(os.listdir(tmp_path)), sorted(os.listdir(tmp_path.parent))
    scan = read_slices(path)
    assert len(scan.slices) == 1
    assert scan.skipped[0][1] == "has a name that leaves the archive"
    assert before == (sorted(os.listdir(tmp_path)), sorted(os.listdir(tmp_path.parent)))


def test_stated_size_is_checked_before_unpacking(write, monkeypatch):
    path = write({"bomb.dcm": bytes(2**20)})
    monkeypatch.setattr(archive, "FILE_LIMIT", 2**16)
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda *_, **__: pytest.fail("unpacked"))
    with pytest.raises(ImageError, match="unpacks to 1048576 bytes, the limit is 65536"):
        read_image(path)


def test_a_size_that_lies_is_refused_or_cut_while_unpacking(write, monkeypatch):
    data = bytearray(zipped({"bomb.dcm": bytes(2**20)}))
    # The uncompressed size in the local header and in the central directory.
    for place in (data.index(b"PK\x03\x04") + 22, data.index(b"PK\x01\x02") + 24):
        data[place : place + 4] = (1000).to_bytes(4, "little")
    monkeypatch.setattr(archive, "FILE_LIMIT", 2**16)
    (member,) = read_members(write(bytes(data)))
    assert member.data is None
    assert member.reason


def test_all_members_share_one_budget(write, monkeypatch):
    monkeypatch.setattr(archive, "TOTAL_LIMIT", 3 * 1000)
    path = write({f"{index}": bytes(1000) for index in range(5)})
    members = list(read_members(path))
    assert [member.data is None for member in members] == [False] * 3 + [True] * 2


def test_number_of_members_is_limited(write, monkeypatch):
    monkeypatch.setattr(archive, "COUNT_LIMIT", 3)
    members = list(read_members(write({f"{index}": b"x" for index in range(50)})))
    assert len(members) == 4
    assert "behind the first 3" in members[-1].reason


def test_other_methods_and_encryption_are_refused(write):
    (member,) = read_members(write({"1.dcm": SLICE}, method=zipfile.ZIP_LZMA))
    assert "other than deflate" in member.reason
    data = bytearray(zipped({"1.dcm": SLICE}))
    data[data.index(b"PK\x01\x02") + 8] |= 1
    (member,) = read_members(write(bytes(data)))
    assert member.reason == "is encrypted"


def test_damaged_archives_give_one_error(write):
    whole = zipped({"1.dcm": SLICE})
    for length in range(4, len(whole), 61):
        with pytest.raises(ImageError, match=r"scan\.zip"):
            read_image(write(whole[:length]))
    for place in range(4, len(whole), 23):
        broken = bytearray(whole)
        broken[place] ^= 0xFF
        try:
            assert read_image(write(bytes(broken))).shape[0] == 1
        except ImageError as error:
            text = str(error)
            assert "scan.zip" in text


def test_names_are_printed_without_control_characters(write):
    assert shown("a\x1b[31m\nb") == "a?[31m?b"
    assert len(shown("x" * 1000)) == 120
    (member,) = read_members(write({"a\x1b[31m.dcm": SLICE}))
    assert member.name == "a?[31m.dcm"


@pytest.mark.parametrize("path", ["/nonexistent/x.dcm", "a\0b"])
def test_nothing_there_is_one_error(path):
    with pytest.raises(ImageError, match="cannot read"):
        read_image(path)


def test_pipes_and_devices_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/zero"):
        with pytest.raises(ImageError, match="is not a regular file"):
            read_image(path)


def test_large_file_is_refused_before_reading(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "FILE_LIMIT", 100)
    (tmp_path / "x.dcm").write_bytes(SLICE)
    with pytest.raises(ImageError, match=r"x\.dcm has \d+ bytes, the limit is 100"):
        read_image(tmp_path / "x.dcm")
