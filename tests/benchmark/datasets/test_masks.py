"""Samples with masks: SIIM-ACR's packaged codes against a plain loop; masks in scoring, runs and pictures."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gtg_bench.benchmark.api.errors import SampleError
from gtg_bench.benchmark.api.geometry import BoolArray, Frame, Mask
from gtg_bench.benchmark.api.types import Box, GroundingMap, PhraseSample
from gtg_bench.benchmark.datasets.check import check
from gtg_bench.benchmark.datasets.siim_pneumothorax import SiimPneumothoraxDataset
from gtg_bench.benchmark.datasets.tables import read_rows, torchxrayvision_file
from gtg_bench.benchmark.report.pictures.overlay import Tile, draw_sheet
from gtg_bench.benchmark.runs import runner
from gtg_bench.benchmark.runs.identity import digest_of_samples as digest
from gtg_bench.benchmark.runs.runner import RunRequest
from gtg_bench.benchmark.scoring.controls import plan
from gtg_bench.benchmark.scoring.protocols import FRAMES, PROTOCOLS
from gtg_bench.benchmark.scoring.score_map import check_sample, evaluation_frame, region_of, score_map
from gtg_bench.benchmark.scoring.trial import Trial

UID = "1.2.276.0.7230010.3.1.4.8323329."
SMALL, LARGE, CLEAR = (
    f"{UID}{number}" for number in ("31952.1517875157.662284", "4588.1517875183.632318", "6904.1517875201.850819")
)
SIDE = 1024


def folder(root: Path, *rows: str) -> Path:
    """A data root with images of 128 x 128 and 1024 x 1024, and with a table where there are rows."""
    root.mkdir(exist_ok=True)
    if rows:
        (root / "train-rle.csv").write_text("\n".join(("ImageId,EncodedPixels", *rows)) + "\n")
    for name, side in ((SMALL, 128), (LARGE, SIDE)):
        Image.new("L", (side, side), 51).save(root / f"{name}.png")
    return root


def drawn(code: str) -> BoolArray:
    """A mask of 1024 x 1024 pixels, drawn one pixel after the other."""
    mask = np.zeros((SIDE, SIDE), dtype=bool)
    numbers, place = [int(word) for word in code.split()], 0
    for gap, length in zip(numbers[::2], numbers[1::2], strict=True):
        place += gap
        for _ in range(length):
            column, row = place // SIDE, place % SIDE
            mask[row, column] = True
            place += 1
    return mask


def packaged() -> dict[str, list[str]]:
    """Image -> its codes in torchxrayvision's copy of the table."""
    path, codes = torchxrayvision_file("siim-pneumothorax-train-rle.csv.gz"), defaultdict(list)
    assert path is not None
    for row in read_rows(path, ["ImageId", "EncodedPixels"]):
        codes[row.text("ImageId")].append(row.text("EncodedPixels"))
    return codes


def block(x0: int, y0: int, x1: int, y1: int, side: int = SIDE) -> str:
    """The code of a filled box."""
    height, gap = y1 - y0, side - (y1 - y0)
    return " ".join([f"{x0 * side + y0} {height}", *[f"{gap} {height}"] * (x1 - x0 - 1)])


def test_the_packaged_table_is_the_published_one(tmp_path: Path) -> None:
    """Counts of the challenge's stage 2: 3,576 masks on 2,669 of 12,047 images; and codes against a plain loop."""
    report = check("siim-pneumothorax", folder(tmp_path), {})
    said = {line.name: (line.state, line.text) for line in report.checks()}
    assert said["counts"][0] == "ok"
    assert said["images"] == ("error", "2,667 problems")
    assert said["negatives"][1].startswith("9378 images")
    assert (report.counts["pairs"], report.counts["masks"], report.counts["usable"]) == (2669, 2, 2)
    codes = packaged()
    assert (codes[CLEAR], len(codes[SMALL]), len(codes[LARGE])) == (["-1"], 1, 2)
    for sample in SiimPneumothoraxDataset(tmp_path, {"present-only": "true"}).samples("test"):
        assert sample.mask is not None
        wanted = np.any([drawn(code) for code in codes[sample.image_id]], axis=0)
        np.testing.assert_array_equal(sample.mask.decode(), wanted)
        assert wanted.any()


# A mask through scoring, runs and pictures


def masked(code: str, size: tuple[int, int] = (SIDE, SIDE), side: int = SIDE) -> PhraseSample:
    mask = Mask.of((side, side), "counts", code)
    return PhraseSample("s", "i", "p", None, "Pneumothorax", "Pneumothorax", (), size, mask)


@pytest.mark.parametrize("kind", FRAMES)
@pytest.mark.parametrize("box", [(0, 0, 1, 1), (3, 5, 40, 61), (1, 2, 63, 64), (10, 20, 11, 21)])
@pytest.mark.parametrize("size", [(64, 64), (128, 128), (300, 200), (51, 77)])
def test_a_mask_that_is_a_filled_box_is_that_box(size: tuple[int, int], box: tuple[int, ...], kind: str) -> None:
    x0, y0, x1, y1 = box
    by_mask = masked(block(x0, y0, x1, y1, side=64), size, side=64)
    scale = size[0] / 64, size[1] / 64
    same: Box = (x0 * scale[0], y0 * scale[1], x1 * scale[0], y1 * scale[1])
    by_box = replace(by_mask, boxes=(same,), mask=None)
    frame = evaluation_frame(size, kind)
    region = region_of(by_mask, kind, frame.size)
    np.testing.assert_array_equal(region, region_of(by_box, kind, frame.size))
    values = np.random.default_rng(0).random((8, 8)).astype(np.float32)
    if region.any() and not region.all():
        found = [
            score_map(
                GroundingMap(values, Frame.original(size)),
                Trial(s, "x", "x", s, ()),
                replace(PROTOCOLS["gtg"], frame=kind),
            )
            for s in (by_mask, by_box)
        ]
        assert found[0].metrics
        assert found[0] == found[1]


def test_a_mask_of_another_image_is_stretched_to_the_original_frame() -> None:
    region = region_of(masked(block(0, 0, 32, 64, side=64), (300, 200), side=64), "original", (10, 6))
    assert region.shape == (6, 10)
    assert region.sum() == 30
    assert region[:, :5].all()


def test_a_sample_needs_a_region_that_can_be_used() -> None:
    good = masked("0 9")
    check_sample(good)
    with pytest.raises(SampleError, match="no box and no mask"):
        check_sample(replace(good, mask=None))
    with pytest.raises(SampleError, match="mask cannot be used"):
        check_sample(replace(good, mask=Mask((8, 8), (("counts", "5 0"),))))
    with pytest.raises(SampleError, match="the phrase is empty"):
        check_sample(replace(good, phrase=" "))


def test_a_runs_samples_tell_masks_apart() -> None:
    boxed = replace(masked("0 9"), boxes=((0.0, 0.0, 4.0, 4.0),), mask=None)
    samples = [masked("0 9"), masked("1 9"), masked("0 9", side=512), boxed, replace(boxed, boxes=((0, 0, 4, 5),))]
    digests = [digest(plan([sample], "none")) for sample in samples]
    assert len(set(digests)) == len(samples)
    others = [digest([Trial(boxed, "x", "x", boxed, (replace(other, sample_id="o"),))]) for other in samples[:2]]
    assert others[0] != others[1]
    assert (
        digests[3] == "70609bcd3edcfb31e63d0505c6c4f86b9761167e67e6466510755e0e7396a28a"
    )  # as it was before there were masks


def test_a_run_and_a_picture(tmp_path: Path) -> None:
    """The middle of the image is the region of one, a corner the region of the other."""
    rows = (f"{SMALL},{block(256, 256, 768, 768)}", f"{LARGE},{block(0, 0, 200, 200)}")
    data = folder(tmp_path / "data", *rows)
    request = RunRequest.of(
        method="center-prior", dataset="siim-pneumothorax", data_root=data, runs_dir=tmp_path / "runs", sampling=None
    )
    records = runner.run(runner.prepare(request), request).records
    assert [record.status for record in records] == ["ok", "ok"]
    assert [record.metrics["top1"] for record in records] == [1, 0]
    opened = SiimPneumothoraxDataset(data)
    small, two = opened.samples("test")
    paths = [tmp_path / name for name in ("plain.png", "outlined.png")]
    for path, with_mask in zip(paths, (False, True), strict=True):
        tiles = [Tile(opened.image(s), s.phrase, s.boxes, None, s.mask if with_mask else None) for s in (small, two)]
        draw_sheet(tiles, path, columns=2)
    plain, outlined = (np.asarray(Image.open(path).convert("L"), dtype=float) for path in paths)
    assert plain.shape == outlined.shape
    white = (outlined > 200) & (plain < 100)  # the outline, on pictures of 0.2
    rim = (outlined < 30) & (plain > 40)
    assert 2000 < white.sum() < 60_000
    assert 2000 < rim.sum() < 60_000
