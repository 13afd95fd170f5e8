"""Radiographs as arrays: files, PIL images and arrays of every mode, and every kind of damage."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.pixels import apply_windowing
from pydicom.uid import JPEGLosslessSV1

from gtg_bench.benchmark.api.errors import DataError, UsageError
from gtg_bench.benchmark.datasets.images import as_image, image_size, looks_whole, read_image

Write = Callable[..., Path]
GREY = np.array([[0, 51, 102], [153, 204, 255]], dtype=np.uint8)
EXPECTED = np.array([[0, 0.2, 0.4], [0.6, 0.8, 1.0]], dtype=np.float32)
STORED = np.array([[100, 200, 300], [400, 500, 600]], dtype=np.uint16)
NOISE = np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)


def saved(path: Path, image: Image.Image, **options: Any) -> Path:
    image.save(path, **options)
    return path


def rgba() -> Image.Image:
    """The grey image in colour; its alpha would black out the first row if it were composited."""
    image = Image.fromarray(GREY).convert("RGBA")
    image.putalpha(Image.fromarray(np.array([[0, 0, 0], [255, 255, 255]], dtype=np.uint8)))
    return image


def palette() -> Image.Image:
    """The grey image with a palette whose indices run the other way."""
    image = Image.fromarray(5 - (GREY // 51))
    image.putpalette([value for index in range(6) for value in [255 - 51 * index] * 3])
    return image


PICTURES = {
    "L": Image.fromarray(GREY),
    "LA": Image.fromarray(GREY).convert("LA"),
    "RGB": Image.fromarray(GREY).convert("RGB"),
    "RGBA": rgba(),
    "P": palette(),
    "I;16": Image.fromarray(GREY.astype(np.uint16) * 257),
}


@pytest.mark.parametrize("mode", PICTURES)
def test_modes(mode: str, tmp_path: Path) -> None:
    """As a PNG file under a Path and a str, and as a PIL image, opened or in memory."""
    path = saved(tmp_path / "x.png", PICTURES[mode])
    opened = Image.open(path)
    for values in (read_image(path), read_image(str(path)), *map(as_image, (path, str(path), opened, PICTURES[mode]))):
        assert values.dtype == np.float32
        np.testing.assert_allclose(values, EXPECTED, atol=1e-6)
    assert image_size(path) == image_size(str(path)) == (3, 2)


def test_transparent_palette_is_not_composited(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.png", palette(), transparency=0)
    np.testing.assert_allclose(read_image(path), EXPECTED, atol=1e-6)


def test_sixteen_bits_and_one_bit(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.png", Image.fromarray(np.array([[0, 1, 65535]], dtype=np.uint16)))
    np.testing.assert_allclose(read_image(path), [[0, 1 / 65535, 1]], rtol=1e-6)
    path = saved(tmp_path / "x.png", Image.fromarray(np.array([[True, False, True]])))
    np.testing.assert_array_equal(read_image(path), [[1, 0, 1]])


@pytest.mark.parametrize(
    "array",
    [
        EXPECTED,
        EXPECTED.astype(np.float64),
        EXPECTED.astype(">f4"),
        GREY,
        GREY[::-1][::-1],
        GREY.astype(np.uint16) * 257,
        (GREY.astype(np.uint16) * 257).astype(">u2"),
        np.stack([GREY] * 3, axis=2),
        np.asarray(rgba()),
        Image.fromarray(EXPECTED),  # mode F
        Image.fromarray(GREY.astype(np.int32) * 257),  # mode I
    ],
    ids=["f4", "f8", ">f4", "u1", "strided", "u2", ">u2", "RGB", "RGBA", "F", "I"],
)
def test_arrays(array: Any) -> None:
    values = as_image(array)
    assert values.dtype == np.float32
    np.testing.assert_allclose(values, EXPECTED, atol=1e-6)
    assert values is not array


@pytest.mark.parametrize(
    "value",
    [
        EXPECTED * 1.001,
        EXPECTED - 0.001,
        np.where(EXPECTED == 0, np.nan, EXPECTED),
        np.where(EXPECTED == 0, np.inf, EXPECTED),
        EXPECTED * 255,
        EXPECTED[0],
        np.float32(0.5),
        np.stack([EXPECTED] * 3, axis=2),
        EXPECTED[None, None],
        np.stack([GREY[:, :2]] * 3),
        np.stack([GREY] * 2, axis=2),
        np.stack([GREY.astype(np.uint16)] * 3, axis=2),
        GREY.astype(np.int32),
        GREY.astype(np.int8),
        GREY.astype(np.uint32),
        GREY > 100,
        EXPECTED.astype(complex),
        GREY.astype(object),
        GREY.astype(str),
        np.zeros((0, 4), np.float32),
        np.zeros((4, 0), np.uint8),
        np.ma.masked_array(EXPECTED, EXPECTED > 0.5),
        EXPECTED.tolist(),
        b"x.png",
        None,
        Image.new("L", (0, 3)),
        Image.fromarray(EXPECTED * 2),
        Image.fromarray(GREY.astype(np.int32) * 258),
        Image.fromarray(GREY.astype(np.int32) - 1),
    ],
    ids=lambda value: f"{type(value).__name__}",
)
def test_anything_else_is_refused(value: Any) -> None:
    with pytest.raises(UsageError, match=r"path.*PIL image.*array") as caught:
        as_image(value)
    assert "\n" not in str(caught.value)


def test_pil_images_with_frames_or_damage_are_refused(tmp_path: Path) -> None:
    pictures = [Image.fromarray(NOISE), Image.fromarray(NOISE).rotate(90)]
    with pytest.raises(UsageError, match="frame"):
        as_image(Image.open(saved(tmp_path / "x.gif", pictures[0], save_all=True, append_images=pictures[1:])))
    path = saved(tmp_path / "x.png", pictures[0])
    path.write_bytes(path.read_bytes()[:999])
    with pytest.raises(UsageError, match="truncated"):
        as_image(Image.open(path))


def test_jpeg_is_rotated_as_its_exif_says(tmp_path: Path) -> None:
    pixels = np.zeros((8, 16), dtype=np.uint8)
    pixels[:, :8] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # the viewer rotates it by 90 degrees clockwise: the left half becomes the top
    path = saved(tmp_path / "x.jpg", Image.fromarray(pixels), exif=exif, quality=95)
    values = read_image(path)
    assert image_size(path) == (8, 16) == values.shape[::-1]
    assert values[:8].min() > 0.9
    assert values[8:].max() < 0.1
    np.testing.assert_array_equal(as_image(Image.open(path)), values)


def png(path: Path) -> bytes:
    return saved(path, Image.fromarray(NOISE)).read_bytes()


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda path: None, "not found"),
    "folder": (Path.mkdir, "folder"),
    "animation": (
        lambda path: saved(path, Image.fromarray(NOISE), save_all=True, append_images=[Image.fromarray(NOISE.T)]),
        "frames",
    ),
    "TIFF": (lambda path: saved(path, Image.fromarray(NOISE), format="TIFF"), "not a PNG, JPEG or DICOM"),
    "empty": (lambda path: path.write_bytes(b""), "empty"),
    "web page": (lambda path: path.write_bytes(b"\n<!DOCTYPE html><html>"), "web page"),
    "garbage": (lambda path: path.write_bytes(b"\1" * 900), "not a PNG, JPEG or DICOM"),
    "truncated": (lambda path: path.write_bytes(png(path)[:999]), "truncated"),
    "truncated JPEG": (
        lambda path: path.write_bytes(saved(path, Image.fromarray(NOISE), format="JPEG").read_bytes()[:1500]),
        "truncated",
    ),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_named(kind: str, tmp_path: Path) -> None:
    damage, said = DAMAGE[kind]
    path = tmp_path / "x.png"
    damage(path)
    for read in (read_image, as_image, *([] if "truncated" in kind else [image_size])):
        with pytest.raises(DataError, match=said) as caught:
            read(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("limit", ["ours", "pillow's"])
def test_decompression_bomb(limit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "x.png", Image.fromarray(GREY))
    if limit == "ours":
        monkeypatch.setattr("gtg_bench.benchmark.datasets.grey_range.MAX_PIXELS", 5)
    else:
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2)
    for read in (read_image, image_size):
        with pytest.raises(DataError, match=r"x\.png.*(more than any radiograph|decompression bomb)"):
            read(path)


# DICOM


def test_dicom_without_a_window_spans_its_own_range(tmp_path: Path, write_dicom: Write) -> None:
    path = write_dicom(tmp_path / "x.dcm", STORED)
    assert read_image(path).dtype == np.float32
    assert image_size(path) == (3, 2)
    negative = write_dicom(tmp_path / "n.dcm", STORED, PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_allclose(as_image(str(negative)), 1 - EXPECTED, atol=1e-6)
    np.testing.assert_array_equal(read_image(write_dicom(tmp_path / "f.dcm", STORED * 0 + 7)), np.zeros((2, 3)))
    unnamed = path.rename(tmp_path / "x.png")  # recognised by its mark
    np.testing.assert_allclose(read_image(unnamed), EXPECTED, atol=1e-6)
    assert image_size(unnamed) == (3, 2)


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize("signed", [False, True])
def test_window_agrees_with_pydicom(function: str, signed: bool, tmp_path: Path, write_dicom: Write) -> None:
    stored = STORED.astype(np.int16) - 300 if signed else STORED
    tags = {"WindowCenter": [20, 7], "WindowWidth": [140.5, 9], "VOILUTFunction": function}
    path = write_dicom(tmp_path / "x.dcm", stored, RescaleSlope=0.5, RescaleIntercept=-100, **tags)
    lowest, highest = (-32768, 32767) if signed else (0, 65535)
    shown = apply_windowing(stored * 0.5 - 100, dcmread(path))
    low, high = lowest * 0.5 - 100, highest * 0.5 - 100
    np.testing.assert_allclose(read_image(path), (shown - low) / (high - low), atol=1e-6)


def test_window_by_hand(tmp_path: Path, write_dicom: Write) -> None:
    """Centre 350.5 and width 201 of the linear function: 250 is black, 450 is white."""
    path = write_dicom(tmp_path / "x.dcm", STORED, WindowCenter=350.5, WindowWidth=201)
    np.testing.assert_allclose(read_image(path), [[0, 0, 0.25], [0.75, 1, 1]], atol=1e-6)


@pytest.mark.parametrize(("vr", "dtype"), [("OW", "<u2"), ("OW", "u1"), ("US", "")])
def test_voi_lut_goes_before_a_window(vr: str, dtype: str, tmp_path: Path, write_dicom: Write) -> None:
    """An 8-bit table for more than 256 stored values: its first entry is for 200, its last one for 499."""
    entries = [min(index, 255) for index in range(300)]
    lut = Dataset()
    lut.LUTDescriptor = [300, 200, 8]
    lut.add_new("LUTData", vr, np.array(entries, dtype=dtype).tobytes() if dtype else entries)
    path = write_dicom(tmp_path / "x.dcm", STORED, VOILUTSequence=[lut], WindowCenter=1, WindowWidth=1)
    np.testing.assert_allclose(read_image(path), np.array([[0, 0, 100], [200, 255, 255]]) / 255, atol=1e-6)


@pytest.mark.parametrize(
    ("tags", "said"),
    [
        ({"NumberOfFrames": 2}, "2 frames"),
        ({"PhotometricInterpretation": "RGB"}, "RGB"),
        ({"WindowCenter": 5, "WindowWidth": 0}, "window"),
        ({"PixelData": b"\0\0"}, "cannot be read"),
        ({"Rows": 60000, "Columns": 60000}, "more than any radiograph"),
        ({"RescaleSlope": "0", "RescaleIntercept": "1e400"}, "header"),
    ],
)
def test_dicom_damage(tags: dict[str, Any], said: str, tmp_path: Path, write_dicom: Write) -> None:
    path = write_dicom(tmp_path / "x.dcm", STORED, **tags)
    with pytest.raises(DataError, match=said) as caught:
        read_image(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_incomplete_dicom(tmp_path: Path, write_dicom: Write) -> None:
    path = write_dicom(tmp_path / "x.dcm", STORED)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(DataError, match=r"x\.dcm"):
        read_image(path)
    file = dcmread(write_dicom(path, STORED))
    del file.PixelData
    file.save_as(path)
    with pytest.raises(DataError, match="without pixel data"):
        read_image(path)
    del file.Rows
    file.save_as(path)
    with pytest.raises(DataError, match="without an image"):
        image_size(path)
    saved(path, Image.fromarray(GREY), format="PNG")
    with pytest.raises(DataError, match="not a DICOM file"):
        read_image(path)


def test_missing_decoder_names_the_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_dicom: Write
) -> None:
    path = write_dicom(tmp_path / "x.dcm", STORED)
    file = dcmread(path)
    file.file_meta.TransferSyntaxUID = JPEGLosslessSV1
    file["PixelData"].is_undefined_length = True
    file.PixelData = b"\xfe\xff\x00\xe0\0\0\0\0" + b"\xfe\xff\xdd\xe0\0\0\0\0"
    file.save_as(path)
    monkeypatch.setattr("pydicom.pixels.decoders.base.Decoder.is_available", property(lambda self: False))
    with pytest.raises(DataError, match="gtg-bench\[dicom\]"):
        read_image(path)


# Real files


@pytest.mark.filterwarnings("ignore:End of file reached")
def test_real_files(tmp_path: Path, real_files: Path) -> None:
    samples = real_files / "cxr_samples"
    bright, inverted = sorted(samples.glob("*.dcm"))
    assert inverted.name == "Fake_MONOHR1.dcm"
    assert image_size(bright) == image_size(inverted) == (1024, 1024)
    np.testing.assert_allclose(read_image(bright) + read_image(inverted), 1, atol=1e-6)
    cut = tmp_path / "cut.dcm"
    cut.write_bytes(bright.read_bytes()[:50_000])
    with pytest.raises(DataError, match=re.escape(str(cut))):
        read_image(cut)
    values = read_image(samples / "00000001_000.png")
    assert values.shape == (512, 512)
    assert 0 <= values.min() < values.max() <= 1
    assert values.std() > 0.1
    assert all(looks_whole(path) for path in samples.iterdir() if path.suffix != ".json")
