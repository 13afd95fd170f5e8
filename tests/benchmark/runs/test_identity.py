"""A number belongs to what produced it: pixels, code and neighbours are in a run's key; places and times are not."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gtg_bench.benchmark.api import METHODS, Frame, GroundingMap, MethodSettings, UsageError
from gtg_bench.benchmark.api.registry import MethodRegistry, entry_of
from gtg_bench.benchmark.api.types import PhraseSample
from gtg_bench.benchmark.datasets import digests, open_dataset
from gtg_bench.benchmark.datasets.digests import image_digests
from gtg_bench.benchmark.runs import records, runner
from gtg_bench.benchmark.runs.runner import RunRequest, RunResult

NAMES = ("a", "b", "c")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GTG_BENCH_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A COCO file with three images of random pixels, a phrase each."""
    folder = tmp_path / "data"
    (folder / "images").mkdir(parents=True)
    images, annotations = [], []
    for k, name in enumerate(NAMES):
        Image.fromarray(np.random.default_rng(k).integers(0, 255, (40, 50), np.uint8)).save(
            folder / f"images/{name}.png"
        )
        images.append({"id": k, "file_name": f"{name}.png", "width": 50, "height": 40})
        box = {"id": k, "image_id": k, "category_id": 1, "bbox": [5, 6, 20, 12], "phrase": f"left opacity {name}"}
        annotations.append(box)
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "Opacity"}]}
    (folder / "phrases.json").write_text(json.dumps(content))
    return folder


class Brightness:
    """The image is the map."""

    def __init__(self, settings: MethodSettings) -> None: ...

    def ground(self, image: np.ndarray, text: str) -> GroundingMap:
        return GroundingMap(image, Frame.original((image.shape[1], image.shape[0])))


def run(folder: Path, root: Path, **options: Any) -> RunResult:
    wanted = {"dataset": "coco", "data_root": root, "runs_dir": folder / "runs"} | options
    request = RunRequest.of("brightness", **wanted)
    return runner.run(runner.prepare(request, entry_of("brightness", Brightness)), request)


def invert(path: Path) -> None:
    with Image.open(path) as image:
        values = 255 - np.asarray(image)
    Image.fromarray(values).save(path)


def file_digests(paths: list[Path]) -> dict[Path, str]:
    samples = [PhraseSample(path.name, path.name, "p", path, "", "", (), (1, 1)) for path in paths]
    return dict(zip(paths, image_digests(open_dataset("phantom", None, {}), samples), strict=True))


def scores(result: RunResult) -> list[dict[str, float]]:
    return [record.metrics for record in result.records]


def test_other_pixels_in_the_same_place_are_another_run(root: Path, tmp_path: Path) -> None:
    first = run(tmp_path, root)
    invert(root / "images" / "b.png")
    second = run(tmp_path, root)
    assert second.spec.key != first.spec.key
    assert (second.computed, second.reused) == (3, 2), "the maps of the images that did not change are reused"
    changed = [one != two for one, two in zip(scores(first), scores(second), strict=True)]
    assert changed == [False, True, False]
    invert(root / "images" / "b.png")
    assert run(tmp_path, root).spec.key == first.spec.key


@pytest.mark.parametrize("change", ["moved", "touched", "elsewhere", "named"])
def test_the_place_and_time_of_the_files_do_not_count(root: Path, tmp_path: Path, change: str) -> None:
    first, options = run(tmp_path, root), {}
    if change == "moved":
        root = Path(shutil.move(root, tmp_path / "moved"))
    elif change == "touched":
        for path in root.rglob("*.png"):
            os.utime(path)
    else:
        there = tmp_path / "there"
        shutil.copytree(root / "images", there)
        options = {"images": str(there)}
        if change == "named":
            shutil.copy(root / "phrases.json", tmp_path / "other name.json")
            options["annotations"] = str(tmp_path / "other name.json")
    again = run(tmp_path, root, dataset_options=options)
    assert (again.spec, again.computed) == (first.spec, 0)


def test_options_that_change_pixels_count(root: Path, tmp_path: Path) -> None:
    keys = {run(tmp_path, root, dataset_options={"range": name}).spec.key for name in ("file", "percentile")}
    assert len(keys) == 2


def test_digests_are_those_of_the_bytes_and_known_files_are_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [tmp_path / name for name in "abcd"]
    for path in paths[:3]:
        path.write_bytes(path.name.encode() * 1000)
    paths[3].mkdir()
    monkeypatch.setattr(digests, "_SETTLED", -60.0)  # as if the files had been written a minute ago
    found = file_digests([*paths, tmp_path / "missing"])
    assert len({found[path] for path in paths[:3]}) == 3
    assert found[paths[3]] == found[tmp_path / "missing"] == ""
    read: list[str] = []
    real = digests._of_file

    def counted(path: Path) -> str:
        read.append(path.name)
        return real(path)

    monkeypatch.setattr(digests, "_of_file", counted)
    assert file_digests(paths) == {path: found[path] for path in paths}
    assert read == []
    times = paths[0].stat()
    paths[0].write_bytes(b"z" * 1000)
    os.utime(paths[0], ns=(times.st_atime_ns, times.st_mtime_ns))
    assert file_digests(paths)[paths[0]] != found[paths[0]], "same size and time of modification, other bytes"
    assert read == ["a"]
    for content in ("", "[]", '{"x": 3}', "{" * 9):
        (tmp_path / "cache" / "image-digests.json").write_text(content)
        assert file_digests(paths[1:3]) == {path: found[path] for path in paths[1:3]}


def test_images_in_one_file_are_read_again_only_if_it_changes(toy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from gtg_bench.benchmark.datasets.phantom.dataset import PhantomDataset, file_of

    monkeypatch.setattr(digests, "_SETTLED", -60.0)
    first = toy.run()
    image, read = PhantomDataset.image, []
    monkeypatch.setattr(PhantomDataset, "image", lambda self, one: read.append(one.image_id) or image(self, one))
    assert (toy.run().spec, read) == (first.spec, [])
    path = file_of(0, "test")
    content = path.read_bytes()
    path.write_bytes(content)
    assert toy.run().spec == first.spec
    assert len(read) == len({record.image_id for record in first.records})


def test_a_file_that_was_just_written_is_read_again(tmp_path: Path) -> None:
    """Its times could stay the same if it changed once more within the clock's grain."""
    path = tmp_path / "new"
    path.write_bytes(b"a")
    file_digests([path])
    assert (
        not (tmp_path / "cache" / "image-digests.json").exists()
        or "new" not in (tmp_path / "cache" / "image-digests.json").read_text()
    )


PLUGIN = """
from gtg_bench.benchmark.api import Frame, GroundingMap, register_method

@register_method("neighbourly", files=["weights.bin"])
class Neighbourly:
    def __init__(self, settings): ...
    def ground(self, image, text): return GroundingMap(image, Frame.original(image.shape[::-1]))
"""


def test_the_declared_files_of_a_plug_in_are_part_of_its_version(tmp_path: Path) -> None:
    path, weights = tmp_path / "plug.py", tmp_path / "weights.bin"
    path.write_text(PLUGIN)

    def code() -> str:
        before = dict(METHODS._registered)
        try:
            METHODS.load_plugin(path)
            return METHODS.get("neighbourly").code
        finally:
            METHODS._registered = before

    with pytest.raises(UsageError, match=r"weights\.bin"):
        code()
    weights.write_bytes(b"1")
    one = code()
    weights.write_bytes(b"2")
    assert code() != one
    weights.write_bytes(b"1")
    assert code() == one
    assert MethodRegistry().get("class-prior").code == "1"


def test_another_version_of_a_method_is_another_run(toy: Any) -> None:
    first = toy.run()
    METHODS._registered["toy"] = replace(METHODS.get("toy"), code="2")
    second = toy.run()
    assert first.spec.key != second.spec.key
    assert second.reused == 0


def test_records_and_maps_of_another_program_are_said_to_be(toy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as older:
        older.setattr(records, "git_revision", lambda: "0123456789abcdef")
        first = toy.run()
    assert first.made_by is None
    again = toy.run()
    assert (again.computed, "0123456789ab" in (again.made_by or "")) == (0, True)
    rescored = toy.run(protocol="biovil")
    assert (rescored.reused, "0123456789ab" in (rescored.made_by or "")) == (12, True)
    anew = toy.run(fresh=True)
    assert (anew.computed, anew.reused, anew.made_by) == (12, 0, None)
    assert toy.run().made_by is None


def stop(done: int, total: int) -> None:
    if done > 4:
        raise KeyboardInterrupt


def test_a_fresh_run_that_was_stopped_mixes_nothing_old_into_its_numbers(toy: Any) -> None:
    first = toy.run()
    toy.run(protocol="biovil")
    request = toy.request(fresh=True, batch_size=4)
    with pytest.raises(KeyboardInterrupt):
        runner.run(runner.prepare(request), request, stop)
    replaced = first.folder.with_name(f"{first.folder.name}.replaced")
    assert len((replaced / "samples.jsonl").read_text().splitlines()) == 12, "nothing is lost before it is replaced"
    rest = toy.run()
    assert (rest.computed, rest.maps_of) == (4, None), "8 were finished, and the other run's maps are not used"
    assert not replaced.exists()


TWICE = """
import sys
from pathlib import Path
from gtg_bench.benchmark.runs.runner import RunRequest, prepare, run

request = RunRequest.of("difference", limit=40, runs_dir=Path(sys.argv[1]))
result = run(prepare(request), request, busy=lambda: print("waited"))
print(result.computed)
"""


def test_processes_of_the_same_run_do_its_work_once(tmp_path: Path) -> None:
    command = [sys.executable, "-c", TWICE, str(tmp_path / "runs")]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    said = [one.communicate(timeout=120)[0].split() for one in both]
    assert [one.returncode for one in both] == [0, 0, 0]
    assert sum(int(words[-1]) for words in said) == 40
