"""Anybody's own phrases: a COCO-style JSON file whose annotations have a text, or a category that serves as one."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.datasets.annotated import ALL, AnnotatedDataset, Annotation
from gtg_bench.benchmark.datasets.coco_file import CocoEntry, mask_of, read_coco
from gtg_bench.benchmark.datasets.places import chosen_file, is_within
from gtg_bench.benchmark.datasets.problems import Faults, fault
from gtg_bench.benchmark.datasets.rows import Row

PHRASES = ("label_text", "phrase", "caption")
"""Where an annotation may have its phrase; the first that it has counts, else its category's name."""

PATIENTS = ("patient_id", "subject_id")
NO_CATEGORY = "unlabelled"
_SEGMENTATION = "segmentation"


class CocoDataset(AnnotatedDataset):
    """A COCO-style file; one sample is an image, a category and a phrase, with all boxes or masks of it.

    Options beside those of every annotated set: `annotations` (the JSON file, from the data root or the working
    folder; default the only one in the data root) and `region` (auto: the masks where every annotation of a phrase has
    one; box: always the boxes).

    An annotation's or its image's `split` names its split; in a file without splits everything is `test`. The patient
    is the image's or annotation's `patient_id` or `subject_id`, else every image is a patient of its own.
    """

    name = "coco"
    needs = "the folder with the COCO file and the images"
    own_options = ("annotations", "region")
    slack = 1.0

    def checked_options(self, options: Mapping[str, str]) -> dict[str, str]:
        """Also the region. Raises UsageError."""
        if options.get("region", "auto") not in ("auto", "box"):
            raise UsageError(f"coco's region is auto or box, not {options['region']!r}")
        return super().checked_options(options)

    def read(self) -> Iterator[Annotation]:
        """The annotations in the file's order."""
        entries = read_coco(self._file())
        ids = _image_ids([_image_name(entry.image) for entry in entries])
        found = [self._annotation(entry, ids) for entry in entries]
        self.splits = (*(dict.fromkeys(a.split for a in found if a.split)), ALL)
        yield from found

    def image_names(self, row: Annotation) -> Sequence[str]:
        """The file name as it stands, or without its folders."""
        return list(dict.fromkeys([row.image, PurePosixPath(row.image).name]))

    def _file(self) -> Path:
        if chosen := self.options.get("annotations"):
            return chosen_file(self.name, self.root, chosen)
        found = sorted(self.root.glob("*.json"))
        if len(found) != 1:
            names = ", ".join(path.name for path in found[:9]) or "none"
            what = f"holds {len(found)} JSON files ({names}), not one"
            raise fault(self.root, what, "name the COCO file with --dataset-option annotations=FILE")
        return found[0]

    def _annotation(self, entry: CocoEntry, ids: Mapping[str, str]) -> Annotation:
        row, image, faults = entry.row, entry.image, entry.faults
        name = _image_name(image)
        image_id = ids.get(name, "")
        size = faults.get(image.size, "width", "height")
        masks = self.options.get("region", "auto") == "auto"
        mask = faults.get(mask_of, row, _SEGMENTATION, size) if masks else None
        phrase = _first_text(row, PHRASES, faults) or entry.category
        return Annotation(
            file=row.file,
            row=row.row,
            image=name,
            image_id=image_id,
            patient_id=_first_text(row, PATIENTS, faults) or _first_text(image, PATIENTS, faults) or image_id,
            category=entry.category or NO_CATEGORY,
            phrase=phrase,
            box=faults.get(row.box_list, "bbox") if row.has("bbox") or not mask else None,
            mask=mask,
            size=size,
            split=_first_text(row, ("split",), faults) or _first_text(image, ("split",), faults) or "test",
            problems=tuple(faults),
        )


def _image_name(image: Row) -> str:
    """The image's path, where it has a usable one, else its file name; "" where it has neither."""
    names = [name for name in map(image.values.get, ("path", "file_name")) if isinstance(name, str)]
    return next((name for name in names if is_within(name)), next(iter(names), ""))


def _image_ids(names: Sequence[str]) -> dict[str, str]:
    """Usable image name -> id: the bare name where it tells the images apart, else the whole path in one piece."""
    stems = {name: PurePosixPath(name).stem for name in names if is_within(name)}
    shared = Counter(stems.values())
    return {name: re.sub(r"[^\w.-]+", "_", stem if shared[stem] == 1 else name) for name, stem in stems.items()}


def _first_text(row: Row, names: Sequence[str], faults: Faults) -> str:
    """The first of several texts that is there; "" where none is."""
    return next((faults.text(row, name) for name in names if row.has(name)), "")
