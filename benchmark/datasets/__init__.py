"""The data sets by name, and `load_dataset`, which opens one. A reader is imported when its data set is opened."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.api.registry import load_object, unknown
from gtg_bench.benchmark.api.types import Dataset

if TYPE_CHECKING:
    from gtg_bench.benchmark.datasets.base import Published


@dataclass(frozen=True)
class DatasetEntry:
    """A data set in the registry.

    Attributes:
        summary: what it is, in a line.
        target: "module:class" of its reader, called with (data_root, options).
        splits: the names that `--split` takes; a release without some of them says so when it is opened.
        options: what `--dataset-option` takes.
        needs_data_root: whether its files must be downloaded by the user.
        terms: terms of use.
        tree: the accepted file layout, a line each.
        sources: names by which a method's card would say that it was trained on these images.
    """

    summary: str
    target: str
    splits: tuple[str, ...]
    options: str
    needs_data_root: bool
    terms: str
    tree: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()


_HERE = "gtg_bench.benchmark.datasets"
_COMMON = "images=DIR, present-only=true, range=file|bits|percentile"
DATASETS: dict[str, DatasetEntry] = {
    "phantom": DatasetEntry(
        summary="generated chest radiographs with exact boxes; needs no data",
        target=f"{_HERE}.phantom.dataset:PhantomDataset",
        splits=("train", "validate", "test"),
        options="seed=N (another set of patients; default 0)",
        needs_data_root=False,
        terms="MIT, part of this package",
        sources=("phantom",),
    ),
    "chestxray14": DatasetEntry(
        summary="ChestX-ray14: 984 boxes of 8 findings on 880 images; the class label is the phrase",
        target=f"{_HERE}.chestxray14:ChestXray14Dataset",
        splits=("test",),
        options=f"annotations=FILE, phrase=TEMPLATE with {{label}}, {_COMMON}",
        needs_data_root=True,
        terms="NIH Clinical Center: free to use, cite Wang et al., CVPR 2017",
        tree=(
            "DATA_ROOT/BBox_List_2017.csv          (default: torchxrayvision's copy)",
            "DATA_ROOT/images/00000013_005.png     (or images_001/images/..., or next to the CSV; any size)",
        ),
        sources=("ChestX-ray14", "ChestX-ray8", "NIH"),
    ),
    "ms-cxr": DatasetEntry(
        summary="MS-CXR 0.1 and 1.1.0: radiologists' phrases with boxes on MIMIC-CXR images",
        target=f"{_HERE}.ms_cxr:MsCxrDataset",
        splits=("train", "validate", "test", "all"),
        options=f"annotations=FILE, {_COMMON}",
        needs_data_root=True,
        terms="PhysioNet credentialed; cite Boecking et al., ECCV 2022, and MIMIC-CXR-JPG",
        tree=(
            "DATA_ROOT/MS_CXR_Local_Alignment_v1.1.0.csv     (or .json; or v1.0.0, which only has --split all)",
            "DATA_ROOT/files/p10/p10000032/s50414267/*.jpg   (or .dcm or .png; or below images=DIR, a MIMIC-CXR-JPG",
            "                                                root or one folder with all images)",
            "DATA_ROOT/mimic-cxr-2.0.0-split.csv.gz          (or in images=DIR; optional, to check the overlap with",
            "                                                MIMIC-CXR's training split)",
        ),
        sources=("MIMIC-CXR",),
    ),
    "rsna-pneumonia": DatasetEntry(
        summary="RSNA Pneumonia Detection Challenge: opacity boxes on 6,012 images of ChestX-ray14",
        target=f"{_HERE}.rsna_pneumonia:RsnaPneumoniaDataset",
        splits=("test",),
        options=f"annotations=FILE, phrase=TEMPLATE with {{label}}, {_COMMON}",
        needs_data_root=True,
        terms="RSNA's challenge terms; cite Shih et al., Radiology: Artificial Intelligence, 2019, and ChestX-ray14",
        tree=(
            "DATA_ROOT/stage_2_train_labels.csv                   (default: torchxrayvision's copy)",
            "DATA_ROOT/stage_2_train_images/00436515-870c-*.dcm   (or .png or .jpg of any size; or in images/, or in",
            "                                                     DATA_ROOT itself)",
        ),
        sources=("ChestX-ray14", "ChestX-ray8", "NIH", "RSNA"),
    ),
    "siim-pneumothorax": DatasetEntry(
        summary="SIIM-ACR Pneumothorax Segmentation: masks on 2,669 images of ChestX-ray14",
        target=f"{_HERE}.siim_pneumothorax:SiimPneumothoraxDataset",
        splits=("test",),
        options=f"annotations=FILE, phrase=TEMPLATE with {{label}}, {_COMMON}",
        needs_data_root=True,
        terms="SIIM-ACR's challenge terms; cite Filice et al., Journal of Digital Imaging, 2020, and ChestX-ray14",
        tree=(
            "DATA_ROOT/stage_2_train.csv                          (or train-rle.csv; default: torchxrayvision's copy)",
            "DATA_ROOT/dicom-images-train/STUDY/SERIES/IMAGE.dcm  (or IMAGE.dcm, .png or .jpg of any size in",
            "                                                     dicom-images-train/, in images/, or in DATA_ROOT)",
        ),
        sources=("ChestX-ray14", "ChestX-ray8", "NIH", "SIIM"),
    ),
    "vindr-cxr": DatasetEntry(
        summary="VinDr-CXR: boxes of 14 findings on 4,394 images, each read by three radiologists; or its test set",
        target=f"{_HERE}.vindr_cxr:VinDrCxrDataset",
        splits=("test",),
        options=f"readers=union|R1..R17, reader=1|2|3, read-twice=true, annotations=FILE, "
        f"phrase=TEMPLATE with {{label}}, {_COMMON}",
        needs_data_root=True,
        terms="PhysioNet credentialed, or VinBigData's challenge terms; cite Nguyen et al., Scientific Data, 2022",
        tree=(
            "DATA_ROOT/train.csv             (or annotations/annotations_train.csv, else annotations/",
            "                                annotations_test.csv; default: torchxrayvision's copy of train.csv)",
            "DATA_ROOT/train/IMAGE_ID.dicom  (or .dcm, .png or .jpg; or in test/, in images/, or in DATA_ROOT itself)",
            "DATA_ROOT/train_meta.csv        (or test_meta.csv: image_id, dim0: rows, dim1: columns; only for reduced",
            "                                images)",
        ),
        sources=("VinDr", "VinBigData"),
    ),
    "chestx-det": DatasetEntry(
        summary="ChestX-Det: outlines of 13 findings on 3,578 images; or ChestX-Det10's boxes",
        target=f"{_HERE}.chestx_det:ChestXDetDataset",
        splits=("train", "test"),
        options=f"region=auto|box, annotations=FILE, phrase=TEMPLATE with {{label}}, {_COMMON}",
        needs_data_root=True,
        terms="annotations Apache-2.0; cite Lian et al., IEEE TMI, 2021, and ChestX-ray14",
        tree=(
            "DATA_ROOT/ChestX_Det_train.json, ChestX_Det_test.json   (one of them is enough; or ChestX-Det10's",
            "                                                        train.json, test.json)",
            "DATA_ROOT/test_data/test/*.png                          (or test_data/, test/, images/ or DATA_ROOT)",
        ),
        sources=("ChestX-ray14", "ChestX-ray8", "NIH", "ChestX-Det"),
    ),
    "chexlocalize": DatasetEntry(
        summary="CheXlocalize: outlines of 10 findings on 686 images; images of CheXpert",
        target=f"{_HERE}.chexlocalize:CheXlocalizeDataset",
        splits=("validate", "test"),
        options=f"annotations=FILE, phrase=TEMPLATE with {{label}}, {_COMMON}",
        needs_data_root=True,
        terms="Stanford AIMI's research use agreement; cite Saporta et al., Nature Machine Intelligence, 2022",
        tree=(
            "DATA_ROOT/CheXlocalize/gt_segmentations_test.json   (and _val; or gt_annotations_*; or in DATA_ROOT)",
            "DATA_ROOT/CheXpert/test/patient64741/study1/*.jpg   (and val/; or test/, images/ or DATA_ROOT, with or",
            "                                                    without the folders of patients and studies)",
        ),
        sources=("CheXpert",),
    ),
    "padchest-gr": DatasetEntry(
        summary="PadChest-GR: sentences of reports with boxes; 7,037 positive and 3,422 negative ones",
        target=f"{_HERE}.padchest_gr:PadChestGrDataset",
        splits=("train", "validate", "test"),
        options=f"reader=1|2, read-twice=true, language=en|es, annotations=FILE, {_COMMON}",
        needs_data_root=True,
        terms="BIMCV's research use agreement, on registration; cite Castro et al., NEJM AI, 2025",
        tree=(
            "DATA_ROOT/grounded_reports_20240819.json",
            "DATA_ROOT/master_table.csv                             (patients and splits)",
            "DATA_ROOT/Padchest_GR_files/PadChest_GR/*.png          (or PadChest_GR/, images/ or DATA_ROOT)",
        ),
        sources=("PadChest",),
    ),
    "coco": DatasetEntry(
        summary="your own phrases in a COCO-style JSON file, with boxes or masks",
        target=f"{_HERE}.coco:CocoDataset",
        splits=("test", "all"),
        options=f"annotations=FILE, region=auto|box, {_COMMON}",
        needs_data_root=True,
        terms="yours",
        tree=(
            "DATA_ROOT/*.json      images (file_name, width, height), annotations (bbox or segmentation, and a phrase",
            "                      in label_text, phrase or caption), categories; optionally `split` and `patient_id`",
            "DATA_ROOT/FILE_NAME   (or in DATA_ROOT/images, or in images=DIR; with or without FILE_NAME's folders)",
        ),
    ),
}


def load_dataset(name: str, data_root: str | os.PathLike[str] | None = None, **options: object) -> Dataset:
    """Open a data set by name: `load_dataset("chestxray14", "data/nih", present_only=True).samples("test")`.

    Args:
        name: one of DATASETS, as `gtg-bench data list` shows them.
        data_root: the folder with its annotations and images; not needed for the phantom.
        options: what `--dataset-option` takes, with underscores for hyphens: `images="DIR"`, `present_only=True`.

    Returns:
        The data set: `samples(split)` and `image(sample)`.

    Raises:
        UsageError: unknown name, folder or option.
        DataError: its files cannot be used; names file, row and fix.
    """
    texts = {
        key.replace("_", "-"): str(value).lower() if isinstance(value, bool) else str(value)
        for key, value in options.items()
    }
    return open_dataset(name, None if data_root is None else Path(data_root), texts)


def open_dataset(name: str, data_root: Path | None, options: Mapping[str, str]) -> Dataset:
    """As `load_dataset`, with options spelled as in `--dataset-option`."""
    if name not in DATASETS:
        raise UsageError(unknown("data set", name, DATASETS))
    entry = DATASETS[name]
    if entry.needs_data_root and data_root is None:
        raise UsageError(f"{name} needs --data-root DIR, the folder with its annotations and images")
    if data_root is not None and not os.path.isdir(data_root):
        raise UsageError(f"--data-root {data_root} is not a folder")
    return load_object(entry.target)(data_root, options)


def published_counts(name: str) -> Published | None:
    """The publisher's counts of a data set; None if there are none."""
    return getattr(load_object(DATASETS[name].target), "published", None)
