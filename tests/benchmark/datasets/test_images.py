"""Radiographs as arrays: files, PIL images and arrays of every mode, and every kind of damage."""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngInfo

from gtg_bench.benchmark.api.errors import DataError, UsageError
from gtg_bench.benchmark.datasets.images import as_image, image_size, looks_whole, read_image

GREY = np.array([[0, 51, 102], [153, 204, 255]], dtype=np.uint8)
EXPECTED = np.array([[0, 0.2, 0.4], [0.6, 0.8, 1.0]], dtype=np.float32)
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
        EXPECTED[0],
        np.stack([EXPECTED] * 3, axis=2),
        EXPECTED[None, None],
        np.stack([GREY[:, :2]] * 3),
        np.stack([GREY] * 2, axis=2),
        np.stack([GREY.astype(np.uint16)] * 3, axis=2),
        GREY.astype(np.int32),
        GREY > 100,
        GREY.astype(object),
        np.zeros((0, 4), np.float32),
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


def exif(orientation: int, broken: bool = False) -> bytes:
    """EXIF data with an orientation; `broken` adds a resolution of 1/0 and a sub-IFD outside the data."""
    entries = [struct.pack("<HHIHH", 0x0112, 3, 1, orientation, 0)]
    if broken:
        entries += [struct.pack("<HHII", 0x011A, 5, 1, 8 + 2 + 3 * 12 + 4), struct.pack("<HHII", 0x8769, 4, 1, 9999)]
    ifd = struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4) + struct.pack("<II", 1, 0)
    return b"Exif\0\0II*\0" + struct.pack("<I", 8) + ifd


@pytest.mark.parametrize("orientation", range(1, 10))
@pytest.mark.parametrize("broken", [False, True])
def test_jpeg_is_rotated_as_its_exif_says(orientation: int, broken: bool, tmp_path: Path) -> None:
    """By Pillow's own rule, which fails on EXIF data that cannot be written again; 9 is not an orientation."""
    pixels = np.zeros((8, 16), dtype=np.uint8)
    pixels[:, :8], pixels[:4, :4] = 255, 128
    plain = ImageOps.exif_transpose(
        Image.open(saved(tmp_path / "y.jpg", Image.fromarray(pixels), exif=exif(orientation)))
    )
    path = saved(tmp_path / "x.jpg", Image.fromarray(pixels), exif=exif(orientation, broken))
    np.testing.assert_array_equal(read_image(path), np.asarray(plain, np.float32) / np.float32(255))
    assert image_size(path) == plain.size
    np.testing.assert_array_equal(as_image(Image.open(path)), read_image(path))


def test_large_notes_of_a_png_do_not_matter(tmp_path: Path) -> None:
    """Texts and colour profiles that Pillow refuses as too large."""
    notes = PngInfo()
    notes.add_text("report", "x" * 2_000_000, zip=True)
    path = saved(tmp_path / "x.png", Image.fromarray(GREY), pnginfo=notes, icc_profile=bytes(2_000_000))
    with pytest.raises(ValueError, match="too large"):
        Image.open(path).load()
    np.testing.assert_allclose(read_image(path), EXPECTED, atol=1e-6)
    assert image_size(path) == (3, 2)


@pytest.mark.parametrize(("grey_range", "white"), [("file", 65535), ("bits", 4095), ("percentile", 4000)])
def test_ranges_of_twelve_bits_in_sixteen(grey_range: str, white: float, tmp_path: Path) -> None:
    """0 to 4000 in 1001 steps of 4, and its percentiles: 1 % is 40, 99 % is 3960."""
    values = np.arange(0, 4001, 4, dtype=np.uint16)[None]
    path = saved(tmp_path / "x.png", Image.fromarray(values))
    wanted = np.clip((values - 40.0) / 3920, 0, 1) if grey_range == "percentile" else values / white
    np.testing.assert_allclose(read_image(path, grey_range), wanted, atol=1e-6)
    path = saved(tmp_path / "y.png", Image.fromarray(GREY // 51))
    assert read_image(path, "bits").max() == np.float32(5 / 255)  # never fewer than 8 bits


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
    "cut in the header": (lambda path: path.write_bytes(png(path)[:30]), "cannot be read as an image|not a PNG"),
    "twelve-bit JPEG": (
        lambda path: path.write_bytes(
            saved(path, Image.fromarray(NOISE), format="JPEG")
            .read_bytes()
            .replace(b"\xff\xc0\0\x0b\x08", b"\xff\xc0\0\x0b\x0c")
        ),
        "8 bits",
    ),
    "a pipe": (os.mkfifo, "pipe"),
    "144 megapixels": (lambda path: saved(path, Image.new("1", (12_000, 12_000))), "radiograph"),
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
