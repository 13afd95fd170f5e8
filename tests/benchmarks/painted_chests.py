"""Findings of the phantom painted on real chests: do maps carry over to radiographs? The regions are known exactly.

    python tests/benchmarks/painted_chests.py CHESTXRAY14 OUT [--seed N]
    gtg-bench run -m cxrbert-ldm -m center-prior --dataset coco --data-root OUT

CHESTXRAY14 holds `images`, the table of the images and that of the boxes. Of every patient without boxes the first
image without a finding is taken and reduced to the phantom's 128 x 128 pixels. A chest of average shape is laid over it
where the lungs fit its dark parts best; images that fit badly are left out. One to three findings are drawn in these
lungs, with the contrast of the image, and never brighter than its soft tissue. Their phrases are the phantom's.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from gtg_bench.benchmark.api.geometry import BoolArray, FloatArray
from gtg_bench.benchmark.datasets.phantom.anatomy import CENTRES, SIZE, Chest, Patient, enlarge, ramp
from gtg_bench.benchmark.datasets.phantom.findings import CATEGORY_WEIGHTS, Finding, draw_lesions
from gtg_bench.benchmark.datasets.phantom.grammar import phrase_for
from gtg_bench.benchmark.datasets.phantom.stream import Stream
from gtg_bench.benchmark.datasets.phantom.world import _PLACEMENTS, _another, _apart

SHAPE: dict[str, Any] = {
    "width": 1.09, "lung_width": 0.335, "lung_top": -0.80, "lung_centre": 0.46, "diaphragm": 0.50, "dome": 0.13,
    "heart": (0.135, 0.29, 0.295, 0.325), "rib_spacing": 0.185, "rib_slope": 0.25, "bone": 0.05, "tissue": 0.58,
    "breasts": 0.0,
}  # fmt: skip
"""The middle of what the phantom's patients are drawn from."""

PLACES = list(product(np.arange(0.78, 1.10, 0.04), np.arange(-0.12, 0.121, 0.04), np.arange(-0.2, 0.21, 0.04)))
"""Scale, and the place of the centre across and down."""

LEAST = 0.55
"""Correlation of the lungs with the darkness of the image, below which it is left out."""

CONTRAST = 0.36
"""Of the phantom: soft tissue minus lung."""


class AverageChest(Chest):
    """The fields that findings are drawn with, at a place."""

    def __init__(self, place: tuple[float, float, float], stream: Stream) -> None:
        scale, left, top = (np.float32(each) for each in place)
        self.patient, self.inspiration = Patient(scale=float(scale), **SHAPE), 0.0
        self.x = np.broadcast_to(((CENTRES - left) / scale)[None, :], (SIZE, SIZE))
        self.y = np.broadcast_to(((CENTRES - top) / scale)[:, None], (SIZE, SIZE))
        self.coarse, self.fine = enlarge(stream.field(14, 14)), enlarge(stream.field(48, 48))
        self.heart_level = self._heart_level(1.0)
        self.heart = ramp((np.float32(1) - self.heart_level) * np.float32(4))
        self.lungs = {side: self._lung(side) for side in (-1, 1)}
        self.vessels = np.maximum(self._vessels(-1, stream), self._vessels(1, stream))

    @property
    def air(self) -> FloatArray:
        """The lungs, weaker over the heart."""
        return np.maximum(self.lungs[-1], self.lungs[1]) * (1 - 0.8 * self.heart)

    def within(self, x: float, top: float, bottom: float) -> BoolArray:
        """The part of the image up to `x` on both sides."""
        return (np.abs(self.x) < x) & (self.y > top) & (self.y < bottom)


def normal_images(root: Path) -> Iterator[tuple[str, str, FloatArray]]:
    """Name, patient and pixels of the first image without a finding of each patient without boxes."""
    with (root / "BBox_List_2017.csv").open() as file:
        boxed = {row["Image Index"] for row in csv.DictReader(file)}
    with (root / "Data_Entry_2017_v2020.csv").open() as file:
        rows = list(csv.DictReader(file))
    done = {row["Patient ID"] for row in rows if row["Image Index"] in boxed}
    for row in rows:
        path, patient = root / "images" / row["Image Index"], row["Patient ID"]
        if row["Finding Labels"] == "No Finding" and patient not in done and path.is_file():
            done.add(patient)
            image = Image.open(path).convert("L").resize((SIZE, SIZE), Image.Resampling.BICUBIC)
            yield path.name, patient, np.asarray(image, np.float32) / 255


def painted(
    image: FloatArray, place: tuple[float, float, float], stream: Stream
) -> tuple[FloatArray, list[tuple[Finding, Any]]]:
    """The image with one to three findings, and these with their boxes."""
    chest = AverageChest(place, stream)
    lungs = np.maximum(chest.lungs[-1], chest.lungs[1]) > 0.5
    tissue, lung = image[~lungs & chest.within(0.9, -0.8, 0.8)].mean(), image[lungs].mean()
    contrast = max(float(tissue - lung), 0.05)
    density, placed = np.zeros_like(image), list[tuple[Finding, Any]]()
    for number in range(stream.choice((1, 2, 3), (3, 6, 1))):
        for _ in range(_PLACEMENTS):
            finding = _another(stream, placed) if number else Finding.draw(stream)
            lesions = draw_lesions(finding, chest, stream)
            boxes = tuple(box for box in (lesion.box() for lesion in lesions) if box is not None)
            if finding.category != "Cardiomegaly" and len(boxes) == len(lesions) and _apart(boxes, placed):
                density = density + sum(lesion.density for lesion in lesions)
                placed.append((finding, boxes))
                break
    room = np.clip((tissue - image) / contrast, 0, 1.1)
    return np.clip(image + np.clip(contrast / CONTRAST, 0.4, 1.3) * room * density, 0, 1), placed


def main() -> None:
    """Write the images and `instances.json`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    (args.out / "images").mkdir(parents=True, exist_ok=True)
    average = [AverageChest(place, Stream("average")) for place in PLACES]
    templates = [(chest.air, chest.within(0.95, -0.95, 0.85)) for chest in average]
    categories, images, annotations = list(CATEGORY_WEIGHTS), list[dict[str, Any]](), list[dict[str, Any]]()
    left_out = 0
    for name, patient, image in normal_images(args.root):
        fits = [float(np.corrcoef(air[inside], -image[inside])[0, 1]) for air, inside in templates]
        if max(fits) < LEAST:
            left_out += 1
            continue
        stream = Stream("painted chest", args.seed, name)
        pixels, placed = painted(image, PLACES[int(np.argmax(fits))], stream)
        Image.fromarray((pixels * 255 + 0.5).astype(np.uint8)).save(args.out / "images" / name)
        number = len(images) + 1
        images.append({"id": number, "file_name": name, "width": SIZE, "height": SIZE, "patient_id": patient})
        named = [finding.category for finding, _ in placed]
        for finding, boxes in placed:
            phrase = phrase_for(finding, stream, named.count(finding.category) > 1)
            for x0, y0, x1, y1 in boxes:
                about = {"image_id": number, "category_id": categories.index(finding.category), "label_text": phrase}
                annotations.append({"id": len(annotations) + 1, **about, "bbox": [x0, y0, x1 - x0, y1 - y0]})
    content = {"images": images, "annotations": annotations}
    content["categories"] = [{"id": number, "name": name} for number, name in enumerate(categories)]
    (args.out / "instances.json").write_text(json.dumps(content))
    print(f"{len(images)} images with {len(annotations)} boxes written to {args.out}; {left_out} do not fit")


if __name__ == "__main__":
    main()
