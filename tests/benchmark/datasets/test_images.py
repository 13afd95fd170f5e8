"""Reading radiographs and tables: every mode that data sets come in, and every kind of damage."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels import apply_windowing
from pydicom.uid import ExplicitVRLittleEndian, JPEGLosslessSV1, SecondaryCaptureImageStorage, generate_uid

from gtg_bench.benchmark.api.errors import DataError
from gtg_bench.benchmark.datasets.images import image_size, read_image
from gtg_bench.benchmark.datasets.tabular import box_from_xywh, number, read_table

SAMPLES = Path(__file__).parents[4] / "shared" / "data" / "cxr_samples"
GREY = np.array([[0, 51, 102], [153, 204, 255]], dtype=np.uint8)
EXPECTED = np.array([[0, 0.2, 0.4], [0.6, 0.8, 1.0]], dtype=np.float32)


def saved(path: Path, image: Image.Image, **options: Any) -> Path:
    image.save(path, **options)
    return path


def rgba() -> Image.Image:
    """The grey image in colour; its alpha would black out the first row if it were composited."""
    image = Image.fromarray(GREY).convert("RGBA")
    image.putalpha(Image.fromarray(np.array([[0, 0, 0], [255, 255, 255]], dtype=np.uint8)))
    return image


def palette() -> Image.Image:
    """The grey image by a palette whose indices run the other way."""
    image = Image.fromarray(5 - (GREY // 51))
    image.putpalette([value for index in range(6) for value in [255 - 51 * index] * 3])
    return image


@pytest.mark.parametrize(
    "image",
    [
        Image.fromarray(GREY),
        Image.fromarray(GREY).convert("LA"),
        Image.fromarray(GREY).convert("RGB"),
        rgba(),
        palette(),
        Image.fromarray(GREY.astype(np.uint16) * 257),
    ],
    ids=["L", "LA", "RGB", "RGBA", "P", "I;16"],
)
def test_png_modes(image: Image.Image, tmp_path: Path) -> None:
    path = saved(tmp_path / "x.png", image)
    values = read_image(path)
    assert values.dtype == np.float32
    np.testing.assert_allclose(values, EXPECTED, atol=1e-6)
    assert image_size(path) == (3, 2)


def test_transparent_palette_is_not_composited(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.png", palette(), transparency=0)
    np.testing.assert_allclose(read_image(path), EXPECTED, atol=1e-6)


def test_sixteen_bits_keep_their_depth(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.png", Image.fromarray(np.array([[0, 1, 65535]], dtype=np.uint16)))
    np.testing.assert_allclose(read_image(path), [[0, 1 / 65535, 1]], rtol=1e-6)


def test_one_bit(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.png", Image.fromarray(np.array([[True, False, True]])))
    np.testing.assert_array_equal(read_image(path), [[1, 0, 1]])


def test_jpeg_is_turned_as_its_exif_says(tmp_path: Path) -> None:
    pixels = np.zeros((8, 16), dtype=np.uint8)
    pixels[:, :8] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # the viewer turns it by 90 degrees clockwise: the left half becomes the top
    path = saved(tmp_path / "x.jpg", Image.fromarray(pixels), exif=exif, quality=95)
    values = read_image(path)
    assert image_size(path) == (8, 16) == values.shape[::-1]
    assert values[:8].min() > 0.9
    assert values[8:].max() < 0.1


def damage(kind: str, folder: Path) -> Path:
    path = folder / "x.png"
    whole = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8))
    if kind == "missing":
        return path
    if kind == "folder":
        path.mkdir()
    elif kind == "animation":
        saved(path, whole, save_all=True, append_images=[whole.rotate(90)])
    elif kind == "TIFF":
        saved(path, whole, format="TIFF")
    else:
        data = saved(path, whole).read_bytes()
        content = {
            "empty": b"",
            "web page": b"\n<!DOCTYPE html><html>",
            "garbage": b"\1" * 900,
            "truncated": data[:999],
        }
        path.write_bytes(content[kind])
    return path


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("missing", "no such file"),
        ("folder", "is a folder"),
        ("animation", "several frames"),
        ("TIFF", "not a PNG, JPEG or DICOM"),
        ("empty", "is empty"),
        ("web page", "web page"),
        ("garbage", "not a PNG, JPEG or DICOM"),
        ("truncated", "truncated"),
    ],
)
def test_damage_is_named(kind: str, said: str, tmp_path: Path) -> None:
    path = damage(kind, tmp_path)
    with pytest.raises(DataError) as caught:
        read_image(path)
    text = str(caught.value)
    assert str(path) in text
    assert said in text
    assert "\n" not in text
    if kind != "truncated":  # damage behind the header
        with pytest.raises(DataError, match=said):
            image_size(path)


def test_truncated_jpeg(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)
    path = saved(tmp_path / "x.jpg", Image.fromarray(noise))
    path.write_bytes(path.read_bytes()[:1500])
    with pytest.raises(DataError, match=r"x\.jpg.*truncated"):
        read_image(path)


@pytest.mark.parametrize("limit", ["ours", "pillow's"])
def test_decompression_bomb(limit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "x.png", Image.fromarray(GREY))
    if limit == "ours":
        monkeypatch.setattr("gtg_bench.benchmark.datasets.images._MAX_PIXELS", 5)
    else:
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2)
    for read in (read_image, image_size):
        with pytest.raises(DataError, match=r"x\.png.*(more than any radiograph|decompression bomb)"):
            read(path)


def dicom(path: Path, pixels: np.ndarray, **tags: Any) -> Path:
    """A small uncompressed grey DICOM file with further or other tags."""
    file = Dataset()
    file.file_meta = FileMetaDataset()
    file.file_meta.TransferSyntaxUID = tags.pop("syntax", ExplicitVRLittleEndian)
    file.SOPClassUID, file.SOPInstanceUID = SecondaryCaptureImageStorage, generate_uid()
    file.Rows, file.Columns = pixels.shape[-2:]
    file.SamplesPerPixel, file.PhotometricInterpretation = 1, "MONOCHROME2"
    file.BitsAllocated = file.BitsStored = pixels.dtype.itemsize * 8
    file.HighBit, file.PixelRepresentation = file.BitsStored - 1, int(pixels.dtype.kind == "i")
    file.PixelData = pixels.tobytes()
    for name, value in tags.items():
        setattr(file, name, value)
    file.save_as(path, enforce_file_format=True)
    return path


STORED = np.array([[100, 200, 300], [400, 500, 600]], dtype=np.uint16)


def test_dicom_without_a_window_spans_its_own_range(tmp_path: Path) -> None:
    path = dicom(tmp_path / "x.dcm", STORED)
    values = read_image(path)
    assert values.dtype == np.float32
    np.testing.assert_allclose(values, EXPECTED, atol=1e-6)
    assert image_size(path) == (3, 2)


def test_monochrome1_is_the_negative(tmp_path: Path) -> None:
    path = dicom(tmp_path / "x.dcm", STORED, PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_allclose(read_image(path), 1 - EXPECTED, atol=1e-6)


def test_dicom_is_known_by_its_mark(tmp_path: Path) -> None:
    path = dicom(tmp_path / "x.dcm", STORED).rename(tmp_path / "x.png")
    np.testing.assert_allclose(read_image(path), EXPECTED, atol=1e-6)
    assert image_size(path) == (3, 2)


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize("signed", [False, True])
def test_window_agrees_with_pydicom(function: str, signed: bool, tmp_path: Path) -> None:
    stored = STORED.astype(np.int16) - 300 if signed else STORED
    tags = {"WindowCenter": [20, 7], "WindowWidth": [140.5, 9], "VOILUTFunction": function}
    path = dicom(tmp_path / "x.dcm", stored, RescaleSlope=0.5, RescaleIntercept=-100, **tags)
    lowest, highest = (-32768, 32767) if signed else (0, 65535)
    shown = apply_windowing(stored * 0.5 - 100, dcmread(path))
    low, high = lowest * 0.5 - 100, highest * 0.5 - 100
    np.testing.assert_allclose(read_image(path), (shown - low) / (high - low), atol=1e-6)


def test_window_by_hand(tmp_path: Path) -> None:
    """Centre 350.5 and width 201 of the linear function: 250 is black, 450 is white."""
    path = dicom(tmp_path / "x.dcm", STORED, WindowCenter=350.5, WindowWidth=201)
    np.testing.assert_allclose(read_image(path), [[0, 0, 0.25], [0.75, 1, 1]], atol=1e-6)


@pytest.mark.parametrize(("vr", "dtype"), [("OW", "<u2"), ("OW", "u1"), ("US", "")])
def test_voi_lut_goes_before_a_window(vr: str, dtype: str, tmp_path: Path) -> None:
    """A table of 8 bits for more than 256 stored values: first entry at 200, last one at 499."""
    entries = [min(index, 255) for index in range(300)]
    lut = Dataset()
    lut.LUTDescriptor = [300, 200, 8]
    lut.add_new("LUTData", vr, np.array(entries, dtype=dtype).tobytes() if dtype else entries)
    path = dicom(tmp_path / "x.dcm", STORED, VOILUTSequence=[lut], WindowCenter=1, WindowWidth=1)
    np.testing.assert_allclose(read_image(path), np.array([[0, 0, 100], [200, 255, 255]]) / 255, atol=1e-6)


def test_flat_dicom_is_black(tmp_path: Path) -> None:
    np.testing.assert_array_equal(read_image(dicom(tmp_path / "x.dcm", STORED * 0 + 7)), np.zeros((2, 3)))


@pytest.mark.parametrize(
    ("tags", "said"),
    [
        ({"NumberOfFrames": 2}, "2 frames"),
        ({"PhotometricInterpretation": "RGB"}, "RGB"),
        ({"WindowCenter": 5, "WindowWidth": 0}, "window"),
        ({"PixelData": b"\0\0"}, "cannot be read"),
        ({"Rows": 60000, "Columns": 60000}, "more than any radiograph"),
        ({"RescaleSlope": "0", "RescaleIntercept": "1e400"}, "do not fit its header"),
    ],
)
def test_dicom_damage(tags: dict[str, Any], said: str, tmp_path: Path) -> None:
    path = dicom(tmp_path / "x.dcm", STORED, **tags)
    with pytest.raises(DataError) as caught:
        read_image(path)
    assert str(path) in str(caught.value)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_dicom_without_pixels_or_image(tmp_path: Path) -> None:
    path = dicom(tmp_path / "x.dcm", STORED)
    file = dcmread(path)
    del file.PixelData
    file.save_as(path)
    with pytest.raises(DataError, match="without pixel data"):
        read_image(path)
    del file.Rows
    file.save_as(path)
    with pytest.raises(DataError, match="without an image"):
        image_size(path)


def test_truncated_dicom(tmp_path: Path) -> None:
    path = dicom(tmp_path / "x.dcm", np.zeros((64, 64), dtype=np.uint16))
    path.write_bytes(path.read_bytes()[:-999])
    with pytest.raises(DataError, match=r"x\.dcm"):
        read_image(path)


def test_not_dicom_whatever_its_name(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.dcm", Image.fromarray(GREY), format="PNG")
    with pytest.raises(DataError, match="is not a DICOM file"):
        read_image(path)


def test_missing_decoder_names_the_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = dicom(tmp_path / "x.dcm", STORED)
    file = dcmread(path)
    file.file_meta.TransferSyntaxUID = JPEGLosslessSV1
    file["PixelData"].is_undefined_length = True
    file.PixelData = b"\xfe\xff\x00\xe0\0\0\0\0" + b"\xfe\xff\xdd\xe0\0\0\0\0"
    file.save_as(path)
    monkeypatch.setattr("pydicom.pixels.decoders.base.Decoder.is_available", property(lambda self: False))
    with pytest.raises(DataError, match="no decoder for that is installed; pip install pylibjpeg"):
        read_image(path)


@pytest.mark.skipif(not SAMPLES.is_dir(), reason=f"the sample radiographs are not at {SAMPLES}")
@pytest.mark.filterwarnings("ignore:End of file reached")
def test_real_dicoms_are_negatives_of_each_other(tmp_path: Path) -> None:
    bright, inverted = sorted(SAMPLES.glob("*.dcm"))
    assert inverted.name == "Fake_MONOHR1.dcm"
    assert image_size(bright) == image_size(inverted) == (1024, 1024)
    np.testing.assert_allclose(read_image(bright) + read_image(inverted), 1, atol=1e-6)
    cut = tmp_path / "cut.dcm"
    cut.write_bytes(bright.read_bytes()[:50_000])
    with pytest.raises(DataError, match=r"cut\.dcm"):
        read_image(cut)


@pytest.mark.skipif(not SAMPLES.is_dir(), reason=f"the sample radiographs are not at {SAMPLES}")
def test_real_png() -> None:
    values = read_image(SAMPLES / "00000001_000.png")
    assert values.shape == (512, 512)
    assert values.min() >= 0
    assert values.max() <= 1
    assert values.std() > 0.1


def table(folder: Path, data: bytes | str) -> Path:
    path = folder / "t.csv"
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def test_table_keeps_texts_and_lines(tmp_path: Path) -> None:
    path = table(tmp_path, '\ufeffid, text,,n\r\n007,"a, ""b""\nc",,1\r\n\r\n,,,\r\n8,d\r\n')
    read = read_table(path, ["text", "id"])
    assert list(read.columns) == ["text", "id", "n"]
    assert read.index.tolist() == [2, 6]
    assert read.values.tolist() == [['a, "b"\nc', "007", "1"], ["d", "8", ""]]


def test_table_renames_and_unzips(tmp_path: Path) -> None:
    path = table(tmp_path, gzip.compress(b"Bbox [x,y\n1,2\n"))
    assert read_table(path, {"x": "Bbox [x"}).to_dict("list") == {"x": ["1"], "y": ["2"]}


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is empty"),
        (b"\n\n", "is empty"),
        (b"a,b\n", "no rows"),
        ("a,b\n1,2\n".encode("utf-16"), "UTF-16"),
        ("a,b\n1,2\n".encode("utf-16-le"), "UTF-16"),
        ("a,b\n1,2\n3,é\n".encode("latin-1"), "row 3: is not UTF-8"),
        (b"a,c\n1,2\n", "has no column 'b'; it has 'a', 'c'"),
        (b"a;b\n1;2\n", "has no column 'a'; it has 'a;b'"),
        (b"a,b,a\n1,2,3\n", "has 2 columns 'a'"),
        (b"a,b\n1,2\n3,4,5\n", "row 3: has 3 values for 2 columns"),
        (b'a,b\n1,2\n3,"4\n', "row 3: is not a valid CSV"),
        (gzip.compress(b"a,b\n" * 999, mtime=0)[:-20], "cannot be read"),
    ],
)
def test_table_damage(data: bytes, said: str, tmp_path: Path) -> None:
    path = table(tmp_path, data)
    with pytest.raises(DataError) as caught:
        read_table(path, ["a", "b"])
    assert str(path) in str(caught.value)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_table(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"t\.csv: there is no such file"):
        read_table(tmp_path / "t.csv", ["a"])
    with pytest.raises(DataError, match="cannot be read"):
        read_table(tmp_path, ["a"])


def test_number() -> None:
    assert number(" 1.5e2 ", Path("t.csv"), 2, "x") == 150
    for text in ("", "nan", "inf", "12px", "1_000", "1,5"):
        with pytest.raises(DataError, match=r"t\.csv, row 7: x is '.*', not a number"):
            number(text, Path("t.csv"), 7, "x")


def test_box_from_xywh() -> None:
    assert box_from_xywh((1, 2, 3, 4), (10, 6), Path("t.csv"), 2) == (1, 2, 4, 6)
    assert box_from_xywh((-0.001, 2, 3, 4.001), (10, 6), Path("t.csv"), 2) == (0, 2, 2.999, 6)
    for xywh in ((0, 0, 0, 1), (0, 0, 1, -1), (-1, 0, 2, 2), (9, 0, 2, 2), (0, 5, 2, 2)):
        with pytest.raises(DataError, match=r"t\.csv, row 9: the box"):
            box_from_xywh(xywh, (10, 6), Path("t.csv"), 9)
