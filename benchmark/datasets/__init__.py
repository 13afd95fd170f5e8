"""The data sets by name. Nothing is imported before it is opened."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.api.registry import load_object, unknown
from gtg_bench.benchmark.api.types import Dataset


@dataclass(frozen=True)
class DatasetEntry:
    """A data set as the registry knows it.

    Attributes:
        summary: what it is, in a line.
        target: "module:class", called with (data_root, options).
        splits: the names that `--split` takes; where a release has fewer, opening it says so.
        options: what `--dataset-option` takes.
        needs_data_root: whether it lies in files that the user has.
        terms: on which terms.
        tree: the accepted layout of files, a line each.
        published: "module:attribute" of the publisher's counts, a `counts.Published`; None where there are none.
        sources: names by which a method's card would say that it was trained on the images of this set.
    """

    summary: str
    target: str
    splits: tuple[str, ...]
    options: str
    needs_data_root: bool
    terms: str
    tree: tuple[str, ...] = ()
    published: str | None = None
    sources: tuple[str, ...] = ()


_HERE = "gtg_bench.benchmark.datasets"
DATASETS: dict[str, DatasetEntry] = {
    "phantom": DatasetEntry(
        summary="generated chest radiographs with exact boxes; needs no data",
        target=f"{_HERE}.phantom.dataset:PhantomDataset",
        splits=("train", "validate", "test"),
        options="seed=N (another world)",
        needs_data_root=False,
        terms="MIT, made here",
        sources=("phantom",),
    ),
    "chestxray14": DatasetEntry(
        summary="ChestX-ray14's 984 official boxes of 8 findings; the class label is the phrase",
        target=f"{_HERE}.chestxray14:ChestXray14Dataset",
        splits=("test",),
        options="images=DIR, phrase=TEMPLATE with {label}, present-only=true",
        needs_data_root=True,
        terms="NIH Clinical Center: free to use, cite Wang et al., CVPR 2017",
        tree=(
            "DATA_ROOT/BBox_List_2017.csv          (else the copy in torchxrayvision is read)",
            "DATA_ROOT/images/00000013_005.png     (or images_001/images/..., or beside the CSV, of any size)",
        ),
        published=f"{_HERE}.chestxray14:PUBLISHED",
        sources=("ChestX-ray14", "ChestX-ray8", "NIH"),
    ),
    "ms-cxr": DatasetEntry(
        summary="MS-CXR 0.1 and 1.1.0: radiologists' phrases with boxes on MIMIC-CXR images",
        target=f"{_HERE}.ms_cxr:MsCxrDataset",
        splits=("train", "validate", "test", "all"),
        options="images=DIR, annotations=FILE, present-only=true",
        needs_data_root=True,
        terms="PhysioNet credentialed; cite Boecking et al., ECCV 2022, and MIMIC-CXR-JPG",
        tree=(
            "DATA_ROOT/MS_CXR_Local_Alignment_v1.1.0.csv     (or .json, or v1.0.0, which has --split all alone)",
            "DATA_ROOT/files/p10/p10000032/s50414267/*.jpg   (or .dcm or .png; or below images=DIR, a MIMIC-CXR-JPG",
            "                                                root; or all images in that one folder)",
            "DATA_ROOT/mimic-cxr-2.0.0-split.csv.gz          (or in images=DIR; for the check of overlaps)",
        ),
        published=f"{_HERE}.ms_cxr:PUBLISHED",
        sources=("MIMIC-CXR",),
    ),
    "rsna-pneumonia": DatasetEntry(
        summary="RSNA Pneumonia Detection Challenge: boxes of opacities on 6,012 images of ChestX-ray14",
        target=f"{_HERE}.rsna_pneumonia:RsnaPneumoniaDataset",
        splits=("test",),
        options="annotations=FILE, phrase=TEMPLATE with {label}, images=DIR, present-only=true",
        needs_data_root=True,
        terms="RSNA's challenge terms; cite Shih et al., Radiology: Artificial Intelligence, 2019, and ChestX-ray14",
        tree=(
            "DATA_ROOT/stage_2_train_labels.csv                   (else the copy in torchxrayvision is read)",
            "DATA_ROOT/stage_2_train_images/00436515-870c-*.dcm   (or .png, .jpg of any size; or in images/, or in",
            "                                                     DATA_ROOT itself)",
        ),
        published=f"{_HERE}.rsna_pneumonia:PUBLISHED",
        sources=("ChestX-ray14", "ChestX-ray8", "NIH", "RSNA"),
    ),
    "siim-pneumothorax": DatasetEntry(
        summary="SIIM-ACR Pneumothorax Segmentation: masks on 2,669 images of ChestX-ray14",
        target=f"{_HERE}.siim_pneumothorax:SiimPneumothoraxDataset",
        splits=("test",),
        options="annotations=FILE, phrase=TEMPLATE with {label}, images=DIR, present-only=true",
        needs_data_root=True,
        terms="SIIM-ACR's challenge terms; cite Filice et al., Journal of Digital Imaging, 2020, and ChestX-ray14",
        tree=(
            "DATA_ROOT/stage_2_train.csv                          (or train-rle.csv; else the copy in torchxrayvision)",
            "DATA_ROOT/dicom-images-train/STUDY/SERIES/IMAGE.dcm  (or IMAGE.dcm, .png, .jpg of any size in",
            "                                                     dicom-images-train/, in images/, or in DATA_ROOT)",
        ),
        published=f"{_HERE}.siim_pneumothorax:PUBLISHED",
        sources=("ChestX-ray14", "ChestX-ray8", "NIH", "SIIM"),
    ),
    "vindr-cxr": DatasetEntry(
        summary="VinDr-CXR: boxes of 14 findings by three readers an image, on 4,394 images",
        target=f"{_HERE}.vindr_cxr:VinDrCxrDataset",
        splits=("test",),
        options="readers=union|R1..R17, annotations=FILE, phrase=TEMPLATE with {label}, images=DIR, present-only=true",
        needs_data_root=True,
        terms="PhysioNet credentialed, or VinBigData's challenge terms; cite Nguyen et al., Scientific Data, 2022",
        tree=(
            "DATA_ROOT/train.csv             (or annotations/annotations_train.csv; else the copy in torchxrayvision)",
            "DATA_ROOT/train/IMAGE_ID.dicom  (or .dcm, .png, .jpg; or in images/, or in DATA_ROOT itself)",
            "DATA_ROOT/train_meta.csv        (image_id, dim0: rows, dim1: columns; for images that were reduced)",
        ),
        published=f"{_HERE}.vindr_cxr:PUBLISHED",
        sources=("VinDr", "VinBigData"),
    ),
    "coco": DatasetEntry(
        summary="your own phrases in a COCO-style JSON file, with boxes or masks",
        target=f"{_HERE}.coco:CocoDataset",
        splits=("test", "all"),
        options="annotations=FILE, images=DIR, region=auto|box, present-only=true",
        needs_data_root=True,
        terms="yours",
        tree=(
            "DATA_ROOT/*.json      images (file_name, width, height), annotations (bbox or segmentation, and a phrase",
            "                      in label_text, phrase or caption), categories; `split` is heeded where it is given",
            "DATA_ROOT/FILE_NAME   (or in DATA_ROOT/images, or in images=DIR; also without FILE_NAME's folders)",
        ),
    ),
}


def open_dataset(name: str, data_root: Path | None, options: Mapping[str, str]) -> Dataset:
    """Open a data set. Raises UsageError for an unknown name or option, DataError for a broken file."""
    if name not in DATASETS:
        raise UsageError(unknown("data set", name, DATASETS))
    entry = DATASETS[name]
    if entry.needs_data_root and data_root is None:
        raise UsageError(f"{name} needs --data-root DIR, the folder with its annotations and images")
    if data_root is not None and not os.path.isdir(data_root):
        raise UsageError(f"--data-root {data_root} is no folder")
    return load_object(entry.target)(data_root, options)
