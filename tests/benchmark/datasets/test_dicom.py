"""DICOM files: every step from stored values to grey by hand, incomplete headers, compressed pixels, damage."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread, dcmwrite
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.pixels import apply_windowing
from pydicom.uid import JPEGExtended12Bit, JPEGLosslessSV1

from gtg_bench.benchmark.api.errors import DataError
from gtg_bench.benchmark.datasets.images import as_image, image_size, looks_whole, read_image

Write = Callable[..., Path]
STORED = np.array([[100, 200, 300], [400, 500, 600]], dtype=np.uint16)
EXPECTED = np.array([[0, 0.2, 0.4], [0.6, 0.8, 1.0]], dtype=np.float32)
WHITE = np.array([[65535, 200, 300], [400, 500, 600]], dtype=np.uint16)
WIDE = {"WindowCenter": 350.5, "WindowWidth": 501}
"""The window of the linear function from 100 to 600."""


def lut(entries: Any, first: int, bits: int, claimed: int = 0, vr: str = "US") -> list[Dataset]:
    """A sequence of one LUT that claims to have a number of entries (default: what it has) and of bits."""
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [claimed or len(entries), first, bits])
    if entries is not None:
        item.add_new("LUTData", vr, entries.tobytes() if vr == "OW" else [int(entry) for entry in entries])
    return [item]


RAMP, BYTES, LUTS = np.arange(501), np.minimum(np.arange(300), 255), ("VOI", "Modality")
"""Entries for the stored values 100 to 600; and for 200 to 499, of 8 bits."""

SHOWN = np.array([[0, 0, 100], [200, 255, 255]]) / 255

STEPS: dict[str, tuple[np.ndarray, dict[str, Any], Any]] = {
    "range of the values": (STORED, {}, EXPECTED),
    "constant": (STORED * 0 + 7, {}, np.zeros((2, 3))),
    "inverted": (STORED, {"PhotometricInterpretation": "MONOCHROME1"}, 1 - EXPECTED),
    "window": (STORED, {"WindowCenter": 350.5, "WindowWidth": 201}, [[0, 0, 0.25], [0.75, 1, 1]]),
    "rescale, then window, then inversion": (
        STORED,
        {"RescaleSlope": 2, "RescaleIntercept": -100, "WindowCenter": 500.5, "WindowWidth": 801}
        | {"PhotometricInterpretation": "MONOCHROME1"},
        [[1, 0.75, 0.5], [0.25, 0, 0]],
    ),
    "modality LUT, then window": (STORED, {"ModalityLUTSequence": lut(RAMP + 100, 100, 16)} | WIDE, EXPECTED),
    "modality LUT with fewer entries than it claims": (
        STORED,
        {"ModalityLUTSequence": lut(RAMP[:201].astype("<u2"), 100, 16, 501, "OW")},
        [[0, 0.5, 1], [1, 1, 1]],
    ),
    "rescale, then VOI LUT": (
        STORED,
        {"RescaleSlope": 1, "RescaleIntercept": -100, "VOILUTSequence": lut(RAMP * 131, 0, 16)},
        EXPECTED * (65500 / 65535),
    ),
    "VOI LUT before a window": (
        STORED,
        {"VOILUTSequence": lut(BYTES, 200, 8), "WindowCenter": 1, "WindowWidth": 1},
        SHOWN,
    ),
    "VOI LUT of words": (STORED, {"VOILUTSequence": lut(BYTES.astype("<u2"), 200, 8, vr="OW")}, SHOWN),
    "VOI LUT of bytes": (STORED, {"VOILUTSequence": lut(BYTES.astype("u1"), 200, 8, vr="OW")}, SHOWN),
    "VOI LUT of 12 bits that claims 16": (STORED, {"VOILUTSequence": lut(RAMP * 4095 // 500, 100, 16)}, EXPECTED),
    "VOI LUT with fewer entries than it claims": (
        STORED,
        {"VOILUTSequence": lut(np.arange(0, 256).astype("<u2"), 100, 8, 501, "OW")},
        np.array([[0, 100, 200], [255, 255, 255]]) / 255,
    ),
    "VOI LUT of a signed image": (
        STORED.astype(np.int16) - 700,
        {"VOILUTSequence": lut(RAMP * 4095 // 500, 65536 - 600, 12)},
        EXPECTED,
    ),
    "empty elements": (
        STORED,
        {"RescaleSlope": None, "RescaleIntercept": "", "WindowCenter": None, "WindowWidth": "", "VOILUTFunction": ""}
        | {"VOILUTSequence": [], "ModalityLUTSequence": [], "PixelPaddingValue": None},
        EXPECTED,
    ),
    "LUTs without entries": (STORED, {f"{kind}LUTSequence": lut(None, 100, 16, 501) for kind in LUTS}, EXPECTED),
    "padding is not in the range": (WHITE, {"PixelPaddingValue": 65535}, [[0, 0, 0.25], [0.5, 0.75, 1]]),
    "padding is black after inversion": (
        WHITE,
        {"PixelPaddingValue": 65535, "PhotometricInterpretation": "MONOCHROME1"},
        [[0, 1, 0.75], [0.5, 0.25, 0]],
    ),
    "black padding of an inverted image": (
        STORED,
        {"PixelPaddingValue": 100, "PhotometricInterpretation": "MONOCHROME1"},
        [[0, 1, 0.75], [0.5, 0.25, 0]],
    ),
    "padding is black under a window": (WHITE, {"PixelPaddingValue": 65535, **WIDE}, EXPECTED),
    "padding of a range": (
        STORED,
        {"PixelPaddingValue": 600, "PixelPaddingRangeLimit": 450},
        np.array([[0, 1, 2], [3, 0, 0]]) / 3,
    ),
    "padding is a stored value": (
        WHITE,
        {"PixelPaddingValue": 65535, "RescaleSlope": 2},  # without an intercept
        [[0, 0, 0.25], [0.5, 0.75, 1]],
    ),
    "nothing but padding": (STORED * 0, {"PixelPaddingValue": 0}, np.zeros((2, 3))),
}


@pytest.mark.parametrize("case", STEPS)
def test_steps_by_hand(case: str, tmp_path: Path, write_dicom: Write) -> None:
    stored, tags, wanted = STEPS[case]
    path = write_dicom(tmp_path / "x.dcm", stored, **tags)
    values = read_image(path)
    assert (values.dtype, image_size(path)) == (np.float32, (3, 2))
    np.testing.assert_allclose(values, wanted, atol=1e-6)


def test_padding_that_is_written_as_unsigned(tmp_path: Path, write_dicom: Write) -> None:
    stored = STORED.astype(np.int16)
    stored[0, 0] = -2000
    file = dcmread(write_dicom(tmp_path / "x.dcm", stored))
    file.add_new(0x00280120, "US", 65536 - 2000)
    file.save_as(tmp_path / "x.dcm")
    np.testing.assert_allclose(read_image(tmp_path / "x.dcm"), [[0, 0, 0.25], [0.5, 0.75, 1]], atol=1e-6)


@pytest.mark.parametrize("grey_range", ["bits", "percentile"])
def test_ranges_replace_a_window(grey_range: str, tmp_path: Path, write_dicom: Write) -> None:
    path = write_dicom(tmp_path / "x.dcm", WHITE, PixelPaddingValue=65535, WindowCenter=1, WindowWidth=1)
    low, high = (0, 1023) if grey_range == "bits" else np.percentile([200, 300, 400, 500, 600], (1, 99))
    wanted = np.clip((WHITE - low) / (high - low), 0, 1)
    wanted[0, 0] = 0
    np.testing.assert_allclose(read_image(path, grey_range), wanted, atol=1e-6)


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


@pytest.mark.parametrize("implicit", [False, True])
def test_incomplete_headers(implicit: bool, tmp_path: Path, write_dicom: Write) -> None:
    """Without a suffix; without a preamble; without file meta information, and so without a transfer syntax."""
    path = write_dicom(tmp_path / "x.dcm", STORED)
    unnamed, bare, none = tmp_path / "x.png", tmp_path / "bare.dcm", tmp_path / "none.dcm"
    unnamed.write_bytes(path.read_bytes())
    bare.write_bytes(path.read_bytes()[132:])
    file = dcmread(path)
    del file.file_meta
    dcmwrite(none, file, implicit_vr=implicit, little_endian=True, enforce_file_format=False)
    for each in (unnamed, bare, none):
        np.testing.assert_allclose(as_image(str(each)), EXPECTED, atol=1e-6)
        assert image_size(each) == (3, 2)
        assert looks_whole(each)


def without(name: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        file = dcmread(path)
        delattr(file, name)
        dcmwrite(path, file)

    return change


def compressed(syntax: str, data: bytes = b"") -> Callable[[Path], None]:
    def change(path: Path) -> None:
        file = dcmread(path)
        file.file_meta.TransferSyntaxUID = syntax
        file.PixelData = encapsulate([data or bytes(8)])
        file["PixelData"].is_undefined_length = True
        dcmwrite(path, file)

    return change


def jpeg_of_12_bits() -> bytes:
    """A JPEG whose header says 12 bits."""
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((2, 3), np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue().replace(b"\xff\xc0\0\x0b\x08", b"\xff\xc1\0\x0b\x0c")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ({"NumberOfFrames": 2}, "2 frames"),
        ({"PhotometricInterpretation": "RGB"}, "RGB"),
        ({"WindowCenter": 5, "WindowWidth": 0}, "window"),
        ({"PixelData": b"\0\0"}, "cannot be read"),
        ({"Rows": 60000, "Columns": 60000}, "radiograph"),
        ({"RescaleSlope": "0", "RescaleIntercept": "1e400"}, "header"),
        (without("PixelData"), "pixel data"),
        (without("Rows"), "without an image"),
        (compressed(JPEGLosslessSV1), r"gtg-bench\[dicom\]"),
        (compressed(JPEGExtended12Bit, jpeg_of_12_bits()), r"gtg-bench\[dicom\]"),
        ((b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.9\0"), "transfer syntax"),
        (compressed("1.2.3"), "transfer syntax"),
        (lambda path: path.write_bytes(path.read_bytes()[:-5]), r"x\.dcm"),
        (lambda path: Image.fromarray(np.zeros((2, 3), np.uint8)).save(path, "PNG"), "not a DICOM file"),
    ],
)
def test_damage_is_named(
    damage: Any, said: str, tmp_path: Path, write_dicom: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pydicom.pixels.decoders.base.Decoder.available_plugins", ("pillow",))
    path = write_dicom(tmp_path / "x.dcm", STORED, **(damage if isinstance(damage, dict) else {}))
    if callable(damage):
        damage(path)
    elif isinstance(damage, tuple):
        path.write_bytes(path.read_bytes().replace(*damage))
    with pytest.raises(DataError, match=said) as caught:
        read_image(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert isinstance(looks_whole(path), bool)
    if said == "not a DICOM file":
        with pytest.raises(DataError, match=said):
            image_size(path)
