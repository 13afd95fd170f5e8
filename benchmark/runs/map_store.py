"""The maps of a run, one npz per sample: the method's values, their frame, its note, and its boxes if it has any.

A file's name (`scoring.trial.Trial.map_name`) says which sample, text and image the map answers, the run's map key
(`spec.RunSpec.map_key`) by which method and settings. Runs with the same map key share their maps: one that is not in
the run's own folder is read from the method's other folders, so another protocol, region or limit runs no model.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np

from gtg_bench.benchmark.api.errors import DataError
from gtg_bench.benchmark.api.geometry import Frame
from gtg_bench.benchmark.api.types import BoxAnswer, GroundingMap, SampleRecord
from gtg_bench.benchmark.paths import atomic
from gtg_bench.benchmark.runs.records import MANIFEST, read_manifest, read_records

_ANSWER = ("boxes", "scores")
"""The arrays of a `BoxAnswer`."""


class MapStore:
    """Maps in `<run>/maps/` by sample id, and in the method's other run folders with the same map key.

    Args:
        folder: the run's folder.
        key: the run's map key; None leaves out other folders.
        names: sample id -> name of its map.
    """

    def __init__(self, folder: Path, key: str | None, names: Mapping[str, str]) -> None:
        self.folder = folder
        self.key = key
        self.names = names
        self._records: dict[Path, dict[str, SampleRecord]] = {}

    @classmethod
    def of_run(cls, folder: Path) -> MapStore:
        """The maps of a stored run, as its records name them."""
        names = {sample: record.map_name for sample, record in read_records(folder).items()}
        valid = {sample: name for sample, name in names.items() if re.fullmatch("[0-9a-f]{24}", name)}
        return cls(folder, _map_key(folder), valid)

    @cached_property
    def siblings(self) -> list[Path]:
        """Other run folders of the method with the same maps, under any protocol; sorted."""
        if self.key is None:
            return []
        folders = sorted(path.parent for path in self.folder.parent.glob(f"*/{MANIFEST}"))
        others = [folder for folder in folders if folder != self.folder and not folder.suffix]
        return [folder for folder in others if _map_key(folder) == self.key]

    @cached_property
    def _shared(self) -> dict[Path, set[str]]:
        """The names of the maps in each of these folders, listed once: there may be hundreds."""
        return {folder: {path.stem for path in folder.glob("maps/*.npz")} for folder in self.siblings}

    def _in(self, folder: Path, sample_id: str) -> bool:
        """Whether a folder has a map."""
        if folder in self._shared:
            return self.names[sample_id] in self._shared[folder]
        return self._path(folder, sample_id).exists()

    def save(self, sample_id: str, grounding: GroundingMap) -> None:
        """Store a map in the run's own folder."""
        frame = grounding.frame
        numbers = np.array([*frame.image_size, *frame.resized, *frame.window], dtype=np.int64)
        answer = {} if grounding.answer is None else {name: getattr(grounding.answer, name) for name in _ANSWER}
        with atomic(self._path(self.folder, sample_id), sync=False) as part:
            steps = {} if grounding.steps_used is None else {"steps_used": np.array(grounding.steps_used)}
            np.savez(part, values=grounding.values, frame=numbers, note=np.array(grounding.note), **answer, **steps)

    def holds(self, sample_id: str) -> bool:
        """Whether a map is stored, here or in another folder; it may still be damaged."""
        return self.path(sample_id) is not None

    def path(self, sample_id: str) -> Path | None:
        """The file of a map, here or in another folder; None if none is stored."""
        if not self.names.get(sample_id):
            return None
        folders = (folder for folder in (self.folder, *self.siblings) if self._in(folder, sample_id))
        return next((self._path(folder, sample_id) for folder in folders), None)

    def source(self, sample_ids: Iterable[str]) -> Path | None:
        """The other folder with most of these samples' maps; None if no other folder has any."""
        wanted = list(sample_ids)
        counts = {folder: sum(self._in(folder, name) for name in wanted) for folder in self.siblings}
        best = max(counts, key=lambda folder: counts[folder], default=None)
        return best if best is not None and counts[best] else None

    def load(self, sample_id: str) -> GroundingMap:
        """A stored map, checked against the fingerprint in its record if it has one.

        Raises:
            DataError: no map is stored, or every stored copy is damaged.
        """
        damage = None
        for folder in (self.folder, *self.siblings) if self.names.get(sample_id) else ():
            if self._in(folder, sample_id):
                try:
                    return self._read(folder, sample_id)
                except DataError as error:
                    damage = damage or error
        if damage is not None:
            raise damage
        raise DataError(f"{self.folder} has no map of sample {sample_id}; was it run on the same samples?")

    def _read(self, folder: Path, sample_id: str) -> GroundingMap:
        path = self._path(folder, sample_id)
        grounding = _unpacked(path)
        record = self._read_records(folder).get(sample_id)
        if record is None or record.map_name != path.stem:
            return grounding
        if record.map_sha256 and record.map_sha256 != grounding.sha256:
            raise DataError(f"{path} does not match the fingerprint in its record; delete the file and run again")
        return replace(grounding, note=grounding.note or record.note)

    def _read_records(self, folder: Path) -> dict[str, SampleRecord]:
        if folder not in self._records:
            self._records[folder] = read_records(folder)
        return self._records[folder]

    def _path(self, folder: Path, sample_id: str) -> Path:
        return folder / "maps" / f"{self.names[sample_id]}.npz"


def _unpacked(path: Path) -> GroundingMap:
    try:
        with np.load(path, allow_pickle=False) as archive:
            values, n = archive["values"], [int(number) for number in archive["frame"]]
            note = str(archive["note"]) if "note" in archive else ""
            answer = BoxAnswer(*(archive[name] for name in _ANSWER)) if "boxes" in archive else None
            steps = int(archive["steps_used"]) if "steps_used" in archive else None
        frame = Frame((n[0], n[1]), (n[2], n[3]), (n[4], n[5], n[6], n[7]))
        return GroundingMap(values, frame, note, answer, steps)
    except Exception as error:  # numpy and zipfile raise many kinds
        raise DataError(f"{path} is damaged ({type(error).__name__}); delete the file and run again") from error


def _map_key(folder: Path) -> str | None:
    """The map key in a run folder's manifest; None if it has none."""
    try:
        return read_manifest(folder).get("map_key")
    except DataError:
        return None
