"""Each way in which a DICOM file can mislead about HU: handled, or refused with its reason."""

import re

import numpy as np
import pytest
from ct_files import COLS, ROWS, content, ct, enhanced_ct, rescale, stored_pixels
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
    SecondaryCaptureImageStorage,
)

from invkit.data.dicom import header as dicom_header
from invkit.data.dicom import read as dicom
from invkit.data.dicom.read import decode
from invkit.errors import ImageError

PLAIN = stored_pixels().astype(np.float32) - 1024


def image(data, syntax=ExplicitVRLittleEndian, **options):
    (piece,) = decode(content(data, syntax, **options))
    return piece.image


def refusal(data, syntax=ExplicitVRLittleEndian):
    with pytest.raises(ImageError) as caught:
        decode(content(data, syntax))
    return str(caught.value)


def test_plain_slice_and_its_numbers():
    data = ct(ConvolutionKernel="B30f", KVP="120", XRayTubeCurrent="200", Exposure="100", CTDIvol=8.5)
    (piece,) = decode(content(data))
    np.testing.assert_array_equal(piece.image, PLAIN)
    assert (piece.rows, piece.cols) == (ROWS, COLS)
    assert (piece.spacing, piece.thickness, piece.position) == ((0.5, 0.75), 2.5, 10.0)
    assert (piece.kernel, piece.kvp, piece.tube_current) == ("B30f", 120.0, 200.0)
    assert (piece.exposure, piece.ctdi_vol, piece.instance, piece.frame) == (100.0, 8.5, 1, 0)


def test_rescale_comes_from_the_file():
    pixels = stored_pixels(high=1500)
    np.testing.assert_allclose(
        image(ct(pixels, slope="2.5", intercept="-900")), pixels * 2.5 - 900, rtol=1e-6
    )


@pytest.mark.parametrize(
    ("elements", "reason"),
    [
        ({"RescaleSlope": None, "RescaleIntercept": None}, "states no Rescale Slope and Intercept"),
        ({"RescaleSlope": None}, "states no usable Rescale Slope"),
        ({"RescaleIntercept": None}, "states no usable Rescale Intercept"),
        ({"RescaleIntercept": ""}, "states no usable Rescale Intercept"),
        ({"RescaleSlope": "0"}, "Rescale Slope 0"),
        ({"RescaleSlope": "1000"}, "outside -4096 to 65535 HU"),
        ({"RescaleIntercept": "-9000"}, "outside -4096 to 65535 HU"),
        ({"RescaleType": "US"}, "not in HU"),
        ({"PhotometricInterpretation": "RGB", "SamplesPerPixel": 3}, "not a greyscale image"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "not a greyscale image"),
        ({"PhotometricInterpretation": None}, "not a greyscale image"),
        ({"Modality": "MR"}, "is of modality MR, not CT"),
        ({"Modality": "DOEJANE"}, "is of modality unknown, not CT"),
        ({"Modality": None}, "states no modality"),
        ({"SOPClassUID": SecondaryCaptureImageStorage}, "is not a CT slice but Secondary Capture"),
        ({"SOPClassUID": "1.2.3.4.5"}, "unknown storage class"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "localizer"),
        ({"PixelData": None}, "no pixel data"),
        ({"Rows": None}, "states no usable Rows"),
        ({"Rows": 0}, "impossible size"),
        ({"Rows": ROWS // 2}, "its header is wrong"),
        ({"Columns": COLS * 2}, "its header is wrong"),
        ({"NumberOfFrames": "2"}, "its header is wrong"),
        ({"NumberOfFrames": "-1"}, "impossible size"),
        ({"Rows": 65535, "Columns": 65535}, "too large"),
        ({"BitsAllocated": None}, "states no usable Bits Allocated"),
        ({"BitsAllocated": 12}, "bits per pixel"),
        ({"BitsStored": 17}, "bits per pixel"),
        ({"BitsStored": 12}, "High Bit"),
        ({"PixelRepresentation": None}, "states no usable Pixel Representation"),
        ({"PixelRepresentation": 7}, "impossible Pixel Representation"),
        ({"PixelSpacing": ["0", "0"]}, "impossible Pixel Spacing"),
        ({"PixelSpacing": ["-1", "1"]}, "impossible Pixel Spacing"),
    ],
)
def test_refused_with_a_reason(elements, reason):
    assert reason in refusal(ct(**elements))


def test_projections_are_not_slices():
    data = ct()
    data.private_block(0x7029, "GENERIC", create=True).add_new(0x10, "US", 64)
    assert "projections" in refusal(data)


def test_monochrome1_is_a_way_to_show_and_changes_no_hu():
    np.testing.assert_array_equal(image(ct(PhotometricInterpretation="MONOCHROME1")), PLAIN)


def test_optional_numbers_may_be_missing_or_empty():
    data = ct(
        PixelSpacing=None,
        SliceThickness="",
        ImagePositionPatient=None,
        InstanceNumber="",
        SeriesInstanceUID=None,
    )
    (piece,) = decode(content(data))
    assert (piece.spacing, piece.thickness, piece.position, piece.instance) == (None, None, None, None)
    assert piece.series == "unknown"


def test_position_is_measured_along_the_normal_of_a_tilted_gantry():
    tilt = np.deg2rad(20)
    axes = ["1", "0", "0", "0", f"{np.cos(tilt):.6f}", f"{np.sin(tilt):.6f}"]
    (piece,) = decode(content(ct(ImageOrientationPatient=axes, ImagePositionPatient=["5", "-7", "30"])))
    assert piece.position == pytest.approx(7 * np.sin(tilt) + 30 * np.cos(tilt), abs=1e-3)


def test_slice_location_stands_in_for_a_missing_position():
    (piece,) = decode(content(ct(ImagePositionPatient=None, SliceLocation="-12.5")))
    assert piece.position == -12.5


@pytest.mark.parametrize("fill", [0x0000, 0xF000, 0x5000])
def test_unused_bits_of_12_bit_pixels_are_ignored(fill):
    signed = stored_pixels(low=-1024, high=2047)
    raw = (signed.astype(np.uint16) & 0x0FFF) | fill
    np.testing.assert_array_equal(image(ct(raw, bits=12, intercept="0")), signed.astype(np.float32))


def test_unused_bits_of_unsigned_12_bit_pixels_are_ignored():
    values = stored_pixels(high=4095, dtype=np.uint16)
    np.testing.assert_array_equal(
        image(ct(values | 0x5000, bits=12, signed=False)), values.astype(np.float32) - 1024
    )


def test_eight_and_thirty_two_bits():
    small = stored_pixels(high=255, dtype=np.uint8)
    expected = small.astype(np.float32) * 10 - 1000
    data = ct(small, bits=8, signed=False, slope="10", intercept="-1000")
    data["PixelData"].VR = "OB"
    np.testing.assert_array_equal(image(data), expected)
    wide = stored_pixels(high=60_000, dtype=np.int32)
    np.testing.assert_array_equal(image(ct(wide, bits=32)), wide.astype(np.float32) - 1024)


@pytest.mark.parametrize(("bits", "low"), [(16, -1000), (12, -1000)])
def test_signed_pixels_under_an_unsigned_header_are_refused(bits, low):
    pixels = stored_pixels(low=low, high=900)
    assert "negative pixels" in refusal(ct(pixels, bits=bits, signed=False, intercept="0"))


def test_unsigned_pixels_under_a_signed_header_are_refused():
    pixels = stored_pixels(high=40_000, dtype=np.uint16)
    assert "outside -4096 to 65535 HU" in refusal(ct(pixels))


@pytest.mark.parametrize("padding", [-2000, -32768, 3])
def test_padding_becomes_air(padding):
    pixels = stored_pixels()
    pixels[0] = padding
    expected = np.where(pixels == padding, -1024, np.maximum(pixels.astype(np.float32) - 1024, -1024))
    data = ct(pixels)
    data.add_new("PixelPaddingValue", "SS", padding)
    np.testing.assert_array_equal(image(data), expected)


def test_padding_written_with_the_other_sign():
    pixels = stored_pixels()
    pixels[0] = -2000
    data = ct(pixels)
    data.add_new("PixelPaddingValue", "US", 63536)
    assert (image(data)[0] == -1024).all()


def test_padding_that_does_not_fit_into_bits_stored():
    pixels = stored_pixels(high=4000, dtype=np.uint16)
    pixels[0] = 63536
    data = ct(pixels, bits=12, signed=False)
    data.add_new("PixelPaddingValue", "US", 63536)
    expected = pixels.astype(np.float32) - 1024
    expected[0] = -1024
    np.testing.assert_array_equal(image(data), expected)


def test_range_of_padding():
    pixels = stored_pixels()
    data = ct(pixels)
    data.add_new("PixelPaddingValue", "SS", 100)
    data.add_new("PixelPaddingRangeLimit", "SS", 50)
    expected = np.where((pixels >= 50) & (pixels <= 100), -1024, pixels.astype(np.float32) - 1024)
    np.testing.assert_array_equal(image(data), expected)


def test_nothing_but_padding_is_refused():
    data = ct(np.full((ROWS, COLS), -2000, dtype=np.int16))
    data.add_new("PixelPaddingValue", "SS", -2000)
    assert "nothing but padding" in refusal(data)


def test_air_below_the_scan_circle_is_clipped_without_a_padding_value():
    pixels = stored_pixels()
    pixels[0], pixels[1] = -2000, -1024
    assert (image(ct(pixels))[:2] == -1024).all()


def modality_lut(kind, first=0):
    item = Dataset()
    item.LUTDescriptor = [3001, first, 16]
    item.ModalityLUTType = kind
    item.LUTData = (np.arange(3001, dtype="<u2") * 2).tobytes()
    item["LUTDescriptor"].VR, item["LUTData"].VR = "US", "OW"
    return Sequence([item])


def test_modality_lut_to_hu_is_applied():
    data = ct(RescaleSlope=None, RescaleIntercept=None, ModalityLUTSequence=modality_lut("HU"))
    np.testing.assert_array_equal(image(data), stored_pixels().astype(np.float32) * 2)


def test_modality_lut_to_another_unit_or_beside_a_rescale_is_refused():
    other = ct(RescaleSlope=None, RescaleIntercept=None, ModalityLUTSequence=modality_lut("OD"))
    assert "does not lead to HU" in refusal(other)
    assert "ambiguous" in refusal(ct(ModalityLUTSequence=modality_lut("HU")))


@pytest.mark.parametrize("rescales", [[(1, -1024)], [(1, -1024), (2, -1000), (0.5, 0)]])
def test_enhanced_ct_takes_shared_and_per_frame_rescale(rescales):
    pixels = np.stack([stored_pixels(low=step, high=2000 + step) for step in (0, 10, 20)])
    pieces = decode(content(enhanced_ct(pixels, [30, 20, 10], rescales)))
    for index, piece in enumerate(pieces):
        slope, intercept = rescales[index % len(rescales)]
        np.testing.assert_array_equal(piece.image, pixels[index].astype(np.float32) * slope + intercept)
        assert (piece.frame, piece.position) == (index, [30.0, 20.0, 10.0][index])
        assert (piece.spacing, piece.thickness) == ((0.5, 0.75), 2.5)


def test_enhanced_ct_with_wrong_groups_is_refused():
    pixels = np.stack([stored_pixels()] * 3)
    assert "3 frames but 2 per-frame groups" in refusal(enhanced_ct(pixels, [1, 2], [(1, -1024)]))
    missing = enhanced_ct(pixels, [1, 2, 3], [(1, -1024)])
    del missing.SharedFunctionalGroupsSequence[0].PixelValueTransformationSequence
    assert "states no Rescale" in refusal(missing)
    other = enhanced_ct(pixels, [1, 2, 3], [(1, -1024)])
    other.SharedFunctionalGroupsSequence[0].PixelValueTransformationSequence = Sequence([rescale(1, 0, "US")])
    assert "not in HU" in refusal(other)


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian]
)
def test_little_endian_transfer_syntaxes(syntax):
    np.testing.assert_array_equal(image(ct(), syntax), PLAIN)


def big_endian(data):
    data.PixelData = np.frombuffer(data.PixelData, "<i2").astype(">i2").tobytes()
    return data


def test_big_endian():
    np.testing.assert_array_equal(image(big_endian(ct()), ExplicitVRBigEndian), PLAIN)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian])
def test_without_preamble_and_file_meta(syntax):
    data = big_endian(ct()) if syntax == ExplicitVRBigEndian else ct()
    np.testing.assert_array_equal(image(data, syntax, preamble=False), PLAIN)


def test_file_meta_without_preamble():
    np.testing.assert_array_equal(decode(content(ct())[132:])[0].image, PLAIN)


def test_rle():
    data = ct()
    data.compress(RLELossless, generate_instance_uid=False)
    np.testing.assert_array_equal(image(data, RLELossless), PLAIN)


def test_rle_of_several_frames_and_a_wrong_number_of_them():
    pixels = np.stack([stored_pixels(high=high) for high in (1000, 2000, 3000)])
    data = ct(pixels)
    data.compress(RLELossless, generate_instance_uid=False)
    pieces = decode(content(data, RLELossless))
    np.testing.assert_array_equal([piece.image for piece in pieces], pixels.astype(np.float32) - 1024)
    for frames in ("2", "4"):
        data.NumberOfFrames = frames
        refusal(data, RLELossless)


@pytest.mark.parametrize("syntax", [JPEGLosslessSV1, JPEGLSLossless])
def test_compressed_without_a_decoder_names_the_extra(syntax, monkeypatch):
    monkeypatch.setattr("pydicom.pixels.decoders.base.Decoder.is_available", False)
    data = ct()
    data.PixelData = encapsulate([b"\xff\xd8\xff\xd9"])
    data["PixelData"].is_undefined_length = True
    text = refusal(data, syntax)
    assert "pip install 'invkit[dicom]'" in text


def test_jpeg_ls_is_decompressed():
    data = ct()
    data.compress(JPEGLSLossless, generate_instance_uid=False)
    np.testing.assert_array_equal(image(data, JPEGLSLossless), PLAIN)


@pytest.mark.parametrize("undefined", [True, False])
def test_sequences_nested_400_deep(undefined):
    plain = content(ct())
    nested = b""
    for _ in range(400):
        item = (
            b"\xfe\xff\x00\xe0" + (b"\xff" * 4 if undefined else len(nested).to_bytes(4, "little")) + nested
        )
        item += b"\xfe\xff\x0d\xe0\0\0\0\0" if undefined else b""
        length = b"\xff" * 4 if undefined else len(item).to_bytes(4, "little")
        nested = (
            b"\x08\x00\x40\x11SQ\0\0" + length + item + (b"\xfe\xff\xdd\xe0\0\0\0\0" if undefined else b"")
        )
    # Before the patient's group, where (0008,1140) belongs.
    place = plain.index(b"\x10\x00\x20\x00LO")
    try:
        (piece,) = decode(plain[:place] + nested + plain[place:])
    except ImageError as error:
        reason = str(error)
    else:
        np.testing.assert_array_equal(piece.image, PLAIN)
        reason = "nested too deep"
    assert "nested too deep" in reason


def test_truncated_anywhere():
    whole = content(ct())
    for length in [0, 1, 100, 131, 132, 140, *range(200, len(whole) - 1, 97), len(whole) - 1]:
        with pytest.raises(ImageError):
            decode(whole[:length])


def test_length_field_of_four_gigabytes():
    whole = content(ct())
    place = whole.index(b"\xe0\x7f\x10\x00OW") + 8
    # All pixels are there: only the length is wrong.
    (piece,) = decode(whole[:place] + b"\xfe\xff\xff\xff" + whole[place + 4 :])
    np.testing.assert_array_equal(piece.image, PLAIN)
    place = whole.index(b"\x20\x00\x13\x00IS") + 4
    with pytest.raises(ImageError):
        decode(whole[:place] + b"UN\0\0\xfe\xff\xff\xff" + whole[place + 4 :])


def test_deflated_bomb_is_refused_before_pydicom_inflates_it(monkeypatch):
    monkeypatch.setattr(dicom, "FILE_LIMIT", 2**20)
    monkeypatch.setattr(dicom, "read_partial", lambda *_, **__: pytest.fail("pydicom was called"))
    data = ct()
    data.private_block(0x0099, "ZEROS", create=True).add_new(0, "OB", bytes(2**22))
    packed = content(data, DeflatedExplicitVRLittleEndian)
    assert len(packed) < 2**15
    with pytest.raises(ImageError, match="inflates to more than"):
        decode(packed)


def test_pixel_limit_is_checked_before_decoding(monkeypatch):
    monkeypatch.setattr(dicom_header, "PIXEL_LIMIT", ROWS * COLS - 1)
    monkeypatch.setattr(dicom, "hounsfield", lambda *_: pytest.fail("pixels were decoded"))
    assert re.search("too large: 24 x 32", refusal(ct()))


@pytest.mark.parametrize(
    "junk", [b"", b"hello", b"\0" * 500, b"\x08\x00" * 300, b"DICM", b"\x89PNG\r\n\x1a\n"]
)
def test_junk_is_not_dicom(junk):
    with pytest.raises(ImageError, match="is not a DICOM file"):
        decode(junk)
