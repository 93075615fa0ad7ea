"""Every way to hand over an image: arrays, npy, PNG, TIFF, DICOM, and the built-in slice."""

import hashlib
import socket
from pathlib import Path

import numpy as np
import pydicom
import pytest
import torch
from ct_files import content, ct, stored_pixels
from PIL import Image

from invkit.data import images
from invkit.data.images import as_image, default_image, default_scan, read_dicom_slices, read_image, read_scan
from invkit.errors import ImageError

RANGE = (-1024.0, 3071.0)
FLOATS = np.linspace(-1000, 2000, 30, dtype=np.float32).reshape(5, 6)


@pytest.mark.parametrize("shape", [(5, 6), (3, 5, 6), (3, 1, 5, 6)])
@pytest.mark.parametrize("kind", ["int16", "uint8", ">f4", "float64", "torch", "bfloat16"])
def test_as_image_takes_every_shape_and_real_type(shape, kind):
    data = np.arange(np.prod(shape)).reshape(shape)
    given = torch.tensor(data) if kind == "torch" else data
    if kind == "bfloat16":
        given = torch.tensor(data, dtype=torch.bfloat16)
    elif kind != "torch":
        given = data.astype(kind)
    image = as_image(given)
    assert image.shape == (shape[0] if len(shape) > 2 else 1, 1, 5, 6)
    assert image.dtype == torch.float32
    np.testing.assert_array_equal(image.numpy().reshape(shape), data)


@pytest.mark.parametrize("given", [5, None, FLOATS, torch.tensor(FLOATS)])
def test_what_is_no_path_cannot_be_read(given):
    with pytest.raises(ImageError, match=f"must be given as str or Path, got {type(given).__name__}"):
        read_image(given)


def test_as_image_copies_and_cuts_gradients():
    array, tensor = FLOATS.copy(), torch.tensor(FLOATS, requires_grad=True)
    for given in (array, tensor, array[::-1, ::-1].T):
        image = as_image(given)
        assert not image.requires_grad
        image += 5
    np.testing.assert_array_equal(array, FLOATS)
    np.testing.assert_array_equal(tensor.detach().numpy(), FLOATS)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (np.zeros(5), "must have shape"),
        (np.zeros((2, 3, 5, 5)), "must have shape"),
        (np.zeros((64, 64, 3)), r"in colour.*\(H, W\), \(B, H, W\) or \(B, 1, H, W\)"),
        (torch.zeros(2, 64, 64, 4), "in colour"),
        (np.zeros((1, 1, 1, 5, 5)), "must have shape"),
        (np.zeros((0, 5)), "pixels"),
        (torch.zeros(0, 5, 5), "pixels"),
        (np.full((5, 5), np.nan), "not finite"),
        (np.full((5, 5), np.inf), "not finite"),
        (np.full((5, 5), 1e200), "not finite"),
        (np.full((5, 5), -5000), "outside -4096 to 65535 HU"),
        (np.full((5, 5), 70_000), "outside -4096 to 65535 HU"),
        (np.zeros((5, 5), dtype=complex), "real numbers"),
        (np.zeros((5, 5), dtype=bool), "real numbers"),
        (torch.zeros(5, 5, dtype=torch.bool), "real numbers"),
        (np.array([["a"]]), "real numbers"),
        (np.array([[None]]), "real numbers"),
        ([[0.0]], "got list"),
        (None, "got NoneType"),
    ],
)
def test_as_image_refuses_with_a_reason(data, reason):
    with pytest.raises(ImageError, match=reason):
        as_image(data)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("kind", ["<f4", ">f8", "int16"])
def test_npy(tmp_path, order, kind):
    data = np.array(stored_pixels(5, 6)[None].repeat(2, 0), dtype=kind, order=order)
    np.save(tmp_path / "x.npy", data)
    np.testing.assert_array_equal(read_image(tmp_path / "x.npy").numpy()[:, 0], data)


def test_npy_is_told_by_its_content(tmp_path):
    with (tmp_path / "x.dat").open("wb") as stream:
        np.save(stream, FLOATS)
    np.testing.assert_array_equal(read_image(tmp_path / "x.dat").numpy()[0, 0], FLOATS)


def test_damaged_npy_gives_one_error(tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, FLOATS)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(ImageError, match=r"x\.npy"):
            read_image(path)
    for place in range(8, 80):
        path.write_bytes(whole[:place] + b"9" + whole[place + 1 :])
        try:
            assert read_image(path).shape == (1, 1, 5, 6)
        except ImageError as error:
            reason = str(error)
            assert "x.npy" in reason


def test_npy_with_pickled_objects_is_refused(tmp_path):
    np.save(tmp_path / "x.npy", np.array([[{}]]), allow_pickle=True)
    with pytest.raises(ImageError, match="Python objects"):
        read_image(tmp_path / "x.npy")


def test_npy_that_is_no_image_is_named(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros(3))
    with pytest.raises(ImageError, match=r"x\.npy: an image must have shape"):
        read_image(tmp_path / "x.npy")


@pytest.mark.parametrize("suffix", ["png", "tif", "tiff"])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_grey_images_with_a_stated_range(tmp_path, suffix, kind):
    largest = np.iinfo(kind).max
    values = np.linspace(0, largest, 30).round().astype(kind).reshape(5, 6)
    path = tmp_path / f"x.{suffix}"
    Image.fromarray(values).save(path)
    image = read_image(path, hu_range=RANGE)
    assert (float(image.min()), float(image.max())) == RANGE
    expected = RANGE[0] + values.astype(np.float64) / largest * (RANGE[1] - RANGE[0])
    np.testing.assert_allclose(image.numpy()[0, 0], expected, atol=1e-3)
    with pytest.raises(ImageError, match="--hu-range -1024,3071"):
        read_image(path)


def test_tiff_of_floats_holds_hu(tmp_path):
    path = tmp_path / "x.tif"
    Image.fromarray(FLOATS).save(path)
    np.testing.assert_array_equal(read_image(path).numpy()[0, 0], FLOATS)
    with pytest.raises(ImageError, match="Omit the HU range"):
        read_image(path, hu_range=RANGE)


def test_pages_of_a_tiff_are_slices(tmp_path):
    pages = [Image.fromarray(np.full((4, 5), value, dtype=np.uint8)) for value in (0, 51, 255)]
    pages[0].save(tmp_path / "x.tif", save_all=True, append_images=pages[1:])
    image = read_image(tmp_path / "x.tif", hu_range=(0, 255))
    assert image[:, 0, 0, 0].tolist() == [0, 51, 255]
    pages[0].save(tmp_path / "y.tif", save_all=True, append_images=[Image.new("L", (7, 7))])
    with pytest.raises(ImageError, match="differing size"):
        read_image(tmp_path / "y.tif", hu_range=(0, 255))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "1", "LA", "I"])
def test_other_kinds_of_image_are_refused(tmp_path, mode):
    path = tmp_path / "x.tif"
    if mode == "LA":
        path = tmp_path / "x.png"
    Image.new(mode, (5, 5)).save(path)
    with pytest.raises(ImageError, match="neither an 8- or 16-bit greyscale image"):
        read_image(path, hu_range=RANGE)


def test_white_is_zero_is_refused(tmp_path):
    path = tmp_path / "x.tif"
    Image.new("L", (5, 5)).save(path, tiffinfo={262: 0})
    with pytest.raises(ImageError, match="white as 0"):
        read_image(path, hu_range=RANGE)


@pytest.mark.parametrize("hu_range", [(5, 5), (3, 1), (0, float("nan")), (0, float("inf")), (1,), "ab"])
def test_impossible_ranges_are_refused(tmp_path, hu_range):
    path = tmp_path / "x.png"
    Image.new("L", (5, 5)).save(path)
    with pytest.raises(ImageError, match="HU range must be two numbers"):
        read_image(path, hu_range=hu_range)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_damaged_pictures_give_one_error(tmp_path, suffix):
    path = tmp_path / f"x.{suffix}"
    Image.fromarray(stored_pixels(16, 16, high=65535, dtype=np.uint16)).save(path)
    whole = path.read_bytes()
    for length in range(0, len(whole), 13):
        path.write_bytes(whole[:length])
        try:
            assert read_image(path, hu_range=RANGE).shape == (1, 1, 16, 16)
        except ImageError as error:
            reason = str(error)
            assert f"x.{suffix}" in reason


def test_size_of_a_picture_is_checked_before_decoding(tmp_path, monkeypatch):
    path = tmp_path / "x.png"
    Image.new("L", (200, 200)).save(path)
    monkeypatch.setattr(images, "PIXEL_LIMIT", 100)
    monkeypatch.setattr(Image.Image, "load", lambda _: pytest.fail("decoded"))
    with pytest.raises(ImageError, match="too large: 200 x 200"):
        read_image(path, hu_range=RANGE)


def test_decompression_bomb_is_refused(tmp_path):
    path = tmp_path / "x.png"
    Image.new("L", (5, 5)).save(path)
    data = bytearray(path.read_bytes())
    data[16:24] = (60_000).to_bytes(4, "big") * 2
    path.write_bytes(bytes(data))
    with pytest.raises(ImageError, match=r"x\.png"):
        read_image(path, hu_range=RANGE)


def test_dicom_file(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(content(ct()))
    np.testing.assert_array_equal(read_image(path).numpy()[0, 0], stored_pixels() - 1024.0)
    path.write_bytes(b"II*\0" + content(ct())[4:])
    assert read_image(str(path)).shape == (1, 1, 24, 32)


def test_anything_else_is_one_error(tmp_path):
    path = tmp_path / "x.jpg"
    path.write_bytes(b"\xff\xd8\xff\xe0 JFIF")
    with pytest.raises(ImageError, match=r"x\.jpg is not a DICOM file"):
        read_image(path)


def test_default_image_is_the_slice_of_pydicom_and_needs_no_network(monkeypatch):
    def refuse(*_, **__):
        pytest.fail("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    image = default_image()
    assert image.shape == (1, 1, 128, 128)
    assert image.dtype == torch.float32
    data = pydicom.dcmread(Path(pydicom.__file__).parent / "data" / "test_files" / "CT_small.dcm")
    np.testing.assert_array_equal(image.numpy()[0, 0], data.pixel_array - 1024.0)


@pytest.mark.parametrize(
    ("stated", "known"),
    [
        ([["0.7", "0.7"], ["0.7", "0.7"]], 0.7),
        ([["0.7", "0.7001"]] * 2, 0.7),
        ([["0.5", "0.75"]] * 2, None),
        ([["0.7", "0.7"], ["0.8", "0.8"]], None),
        ([["0.7", "0.7"], None], None),
    ],
)
def test_pixels_have_a_size_where_all_slices_state_the_same(stated, known, tmp_path):
    for number, spacing in enumerate(stated):
        data = ct(PixelSpacing=spacing, ImagePositionPatient=["0", "0", str(number)])
        (tmp_path / f"{number}.dcm").write_bytes(content(data))
    scan = read_scan(tmp_path)
    assert scan.spacing == known
    assert torch.equal(scan.image, read_image(tmp_path))


def test_files_without_geometry_have_pixels_of_no_size(tmp_path):
    np.save(tmp_path / "x.npy", FLOATS)
    assert read_scan(tmp_path / "x.npy").spacing is None
    assert default_scan().spacing == pytest.approx(0.661468)


@pytest.mark.realdata
def test_real_slices(real_ct):
    slices = read_dicom_slices(real_ct)
    assert len(slices) == 16
    assert len({piece.patient for piece in slices}) == 8
    assert len({piece.series for piece in slices}) == 16
    assert {piece.kernel for piece in slices} == {"STANDARD", "FC17"}
    for piece in slices:
        assert piece.image.shape == (512, 512)
        assert piece.image.min() == -1024
        assert 0.5 < piece.spacing[0] < 1
        # The body's soft tissue, near water.
        assert 0.05 < ((piece.image > -150) & (piece.image < 200)).mean() < 0.9


@pytest.mark.realdata
def test_real_slices_have_the_hu_that_pydicom_computes(real_ct):
    for path in sorted(real_ct.rglob("*.dcm")):
        data = pydicom.dcmread(path)
        expected = data.pixel_array * float(data.RescaleSlope) + float(data.RescaleIntercept)
        np.testing.assert_array_equal(read_image(path).numpy()[0, 0], np.maximum(expected, -1024))
        assert hashlib.sha256(str(data.SeriesInstanceUID).encode()).hexdigest()[:12] == (
            read_dicom_slices(path)[0].series
        )
