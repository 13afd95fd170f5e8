"""PadChest-GR (Castro et al., NEJM AI 2025): sentences of reports with boxes, and sentences without a finding."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from gtg_bench.benchmark.datasets.base import AnnotatedDataset, Annotation
from gtg_bench.benchmark.datasets.locate import chosen_file, existing, is_within
from gtg_bench.benchmark.datasets.problems import fault
from gtg_bench.benchmark.datasets.tables import Faults, Row, iter_rows, read_json, shown

REPORTS = "grounded_reports_*.json"
MASTER = "master_table.csv"
SPLITS = {"train": "train", "validation": "validate", "test": "test"}
"""Split in the publisher's table -> its name here."""

NO_LABEL = "unlabelled"
PUBLISHED = {"studies": 4555, "positive sentences": 7037, "negative sentences": 3422}
_SEXES = {"F": "female", "M": "male"}
_SLACK = 0.001


class PadChestGrDataset(AnnotatedDataset):
    """One sample is an image and a sentence that its radiologists outlined, with its boxes.

    The category is the sentence's first label. Sentences that deny a finding or describe normality (`abnormal` is
    false) are `absent_samples`; positive sentences without a box are counted and left out.

    Further options: `annotations` (the JSON file), `language` (en or es), `reader` (1; 2: the boxes of the second
    reader, `extra_boxes`, on the sentences that have them, under the same sample ids) and `read-twice` (true: only
    sentences that both readers outlined).
    """

    name = "padchest-gr"
    needs = f"the folder with {REPORTS}, {MASTER} and the images"
    own_options = ("annotations", "language", "reader", "read-twice")
    splits = tuple(SPLITS.values())

    def checked_options(self, options: Mapping[str, str]) -> dict[str, str]:
        """The options, with a known language and reader. Raises UsageError."""
        self.check_choices(options, {"language": ("en", "es"), "reader": ("1", "2"), "read-twice": ("false", "true")})
        return super().checked_options(options)

    def read(self) -> list[Annotation]:
        """The sentences with boxes, one row per box, and those without a finding."""
        path = self._reports()
        entries = read_json(path)
        if not isinstance(entries, list) or not entries:
            raise fault(path, "is not a list of studies", "use the file as it was released")
        self._counts: Counter[str] = Counter({"studies": len(entries)})
        master = self._master()
        found: list[Annotation] = []
        for number, entry in enumerate(entries):
            study = Row(path, f"[{number}]", entry if isinstance(entry, dict) else {})
            if not isinstance(study.values.get("findings"), list):
                self.problems.append(study.problem(f"is {shown(entry)}, without a list of findings"))
                continue
            for k, value in enumerate(study.values["findings"]):
                row = Row(path, f"[{number}].findings[{k}]", value if isinstance(value, dict) else {})
                found += self._sentence(study, row, master)
        return found

    def image_folders(self, base: Path) -> list[Path]:
        """The publisher's folders and the base itself."""
        names = ("Padchest_GR_files/PadChest_GR", "PadChest_GR", "Padchest_GR_files", "images")
        return existing([*(base / name for name in names), base])

    def notes(self) -> dict[str, str]:
        """Studies and sentences beside the published numbers, and what has no box."""
        said = [
            f"{self._counts[name]:,} {name}" + ("" if self._counts[name] == count else f" instead of {count:,}")
            for name, count in PUBLISHED.items()
        ]
        left_out = self._counts["without a box"]
        return {
            "sentences": ", ".join(said),
            "absent": f"{len(self.absent):,} sentences without a finding take part in no mean; see absent_samples",
            **({"unboxed": f"{left_out:,} positive sentences have no box by the reader: left out"} if left_out else {}),
        }

    def _reports(self) -> Path:
        if chosen := self.options.get("annotations"):
            return chosen_file(self.name, self.root, chosen)
        found = sorted(self.root.glob(REPORTS))
        if len(found) != 1:
            what = f"contains {len(found) or 'no'} files {REPORTS} instead of one"
            raise fault(self.root, what, "download it, or name it with --dataset-option annotations=FILE")
        return found[0]

    def _master(self) -> dict[str, Row]:
        """Study -> its first row in the master table, which has a row per label."""
        paths = [self.root / f"{MASTER}{packed}" for packed in ("", ".gz", ".zip")]
        path = next((path for path in paths if os.path.exists(path)), paths[0])
        found: dict[str, Row] = {}
        for row in iter_rows(path, ("StudyID", "PatientID", "split")):
            if row.broken:
                self.problems.append(row.broken)
            else:
                found.setdefault(row.text("StudyID"), row)
        return found

    def _sentence(self, study: Row, row: Row, master: Mapping[str, Row]) -> Iterator[Annotation]:
        """A sentence's annotations, one per box; one without a region if it has no finding; none if it has no box."""
        faults = Faults()
        image = faults.text(study, "ImageID")
        name = faults.text(study, "StudyID")
        entry = master.get(name)
        if entry is None:
            faults.append(row.problem(f"{MASTER} has no study {shown(name)}", "use both files of one release"))
        split = entry.text("split") if entry else ""
        if entry is not None and split not in SPLITS:
            what = f"study {name} is in the unknown split {split!r} ({MASTER}, row {entry.row})"
            faults.append(row.problem(what, f"use one of {', '.join(SPLITS)}", "split"))
        abnormal, labels = row.values.get("abnormal"), row.values.get("labels") or []
        if not isinstance(abnormal, bool):
            faults.append(row.problem(f"abnormal is {shown(abnormal)}, not true or false"))
        if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
            faults.append(row.problem(f"labels is {shown(labels)}, not a list of text", kind="category"))
            labels = []
        readers = [row.values.get(name) or [] for name in ("boxes", "extra_boxes")]
        boxes = readers[int(self.options.get("reader", "1")) - 1]
        if self.options.get("read-twice") == "true" and not all(readers):
            boxes = []
        if not isinstance(boxes, list):
            faults.append(row.problem(f"has the boxes {shown(boxes)}, not a list", kind="region"))
            boxes = []
        self._counts["negative sentences" if abnormal is False else "positive sentences"] += 1
        absent = abnormal is False and not boxes
        if not absent and not boxes and not faults:
            self._counts["without a box"] += 1
            return
        made = Annotation(
            file=row.file,
            row=row.row,
            image=image,
            image_id=Path(image).stem if is_within(image) else "",
            patient_id=entry.text("PatientID") if entry else name,
            category=labels[0] if labels else NO_LABEL,
            phrase=faults.text(row, f"sentence_{self.options.get('language', 'en')}"),
            split=SPLITS.get(split, ""),
            absent=absent,
            traits=_traits(entry) if entry else (),
        )
        for box in boxes or [None]:
            own = Faults(faults)
            yield replace(made, box=own.get(_fractions, row, box) if box is not None else None, problems=tuple(own))

    def _checked(self, row: Annotation, first: Annotation) -> Annotation:
        """As any row, with the box in pixels once the image's size is known."""
        if row.box and (size := self._images[row.image].size):
            x0, y0, x1, y1 = row.box
            row = replace(row, box=(x0 * size[0], y0 * size[1], x1 * size[0], y1 * size[1]))
        return super()._checked(row, first)

    def image_names(self, row: Annotation) -> Sequence[str]:
        """The name as given, and with the suffix that some releases leave out."""
        return [row.image, f"{row.image}.png"]


def _traits(entry: Row) -> tuple[tuple[str, str], ...]:
    """Sex and age in years from a row of the master table, as far as it has them."""
    given = {name.lower(): entry.text(name) for name in entry.values}
    sex = next((given[name] for name in ("sex", "patientsex", "patientsex_dicom") if given.get(name)), "")
    age = next((given[name] for name in ("age", "patientage") if given.get(name)), "").removesuffix("Y")
    found = {
        "sex": _SEXES.get(sex[:1].upper(), ""),
        "age": f"{float(age):g}" if re.fullmatch(r"\d{1,3}(\.\d+)?", age) else "",
    }
    return tuple((name, value) for name, value in found.items() if value)


def _fractions(row: Row, box: Any) -> tuple[float, float, float, float]:
    """A box in fractions of the image's sides. Raises Fault if it has no area or is not within 0 and 1."""
    x0, y0, x1, y1 = row.corners(box, "boxes")
    if not (-_SLACK <= x0 < x1 <= 1 + _SLACK and -_SLACK <= y0 < y1 <= 1 + _SLACK):
        raise row.fault(f"has the box {shown(box)}", "give 0 <= x1 < x2 <= 1 and 0 <= y1 < y2 <= 1", "region")
    return max(x0, 0.0), max(y0, 0.0), min(x1, 1.0), min(y1, 1.0)
