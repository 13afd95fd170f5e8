"""The phantom, and sets of files, in MS-CXR's layout; read back, they have the same samples and scores."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gtg_bench.benchmark.api.errors import DataError, UsageError
from gtg_bench.benchmark.api.geometry import Frame, region_in
from gtg_bench.benchmark.datasets.coco import CocoDataset
from gtg_bench.benchmark.datasets.export import (
    COLUMNS,
    STEM,
    ExportedImage,
    export_mscxr,
    image_files,
    phantom_image,
    run_lengths,
)
from gtg_bench.benchmark.datasets.images import image_size
from gtg_bench.benchmark.datasets.ms_cxr import MsCxrDataset
from gtg_bench.benchmark.datasets.phantom import world
from gtg_bench.benchmark.datasets.phantom.dataset import PhantomDataset, load_studies
from gtg_bench.benchmark.datasets.phantom.findings import Finding
from gtg_bench.benchmark.runs.runner import RunRequest, prepare, run
from gtg_bench.methods.priors import TABLES


def written(**studies: world.Study) -> list[ExportedImage]:
    return [phantom_image(split, study) for split, study in studies.items()]


def made_by_hand() -> world.Study:
    """A study with a comma in its phrase and a box that is not on whole pixels."""
    finding = next(s.finding for study in world.patient_studies(0, 1) for s in study.statements)
    assert isinstance(finding, Finding)
    statement = world.Statement('left, "small"', finding, ((1.0, 2.0, 4.0, 7.0), (0.5, 0.0, 1.0, 1.0)))
    return world.Study("phantom0-p00001-0", "p00001", np.full((4, 8), 9, np.uint8), (statement,), "")


def test_by_hand(tmp_path: Path) -> None:
    study = made_by_hand()
    empty = world.Study("phantom0-p00002-1", "p00002", study.pixels, (), "")
    export_mscxr(written(test=study, train=empty), tmp_path)
    category = study.statements[0].finding.category
    path = "files/p00/p00001/s000010/phantom0-p00001-0.png"
    start = f'phantom0-p00001-0,p00001,s000010,{path},{category},"left, ""small""",8,4'
    text = (tmp_path / f"{STEM}.csv").read_text()
    assert text.splitlines() == [",".join(COLUMNS), f"{start},1,2,3,5,test", f"{start},0.5,0,0.5,1,test"]
    made = json.loads((tmp_path / f"{STEM}.json").read_text())
    assert list(made) == ["info", "licenses", "categories", "images", "annotations"]
    assert [annotation["id"] for annotation in made["annotations"]] == [1, 2]
    assert made["annotations"][0] == {
        **{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 5], "label_text": 'left, "small"'},
        **{"width": 8, "height": 4, "area": 15, "iscrowd": 0},
    }
    path = "files/p00/p00002/s000021/phantom0-p00002-1.png"
    second = {"id": 2, "file_name": "phantom0-p00002-1.png", "path": path, "width": 8, "height": 4}
    assert made["images"][1] == second
    assert image_size(tmp_path / path) == (8, 4)
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 4, "nothing temporary is left"


def test_target_is_not_overwritten_unasked(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(UsageError, match="is not empty"):
        export_mscxr(written(test=made_by_hand()), tmp_path)
    with pytest.raises(UsageError, match="is a file"):
        export_mscxr(written(test=made_by_hand()), tmp_path / "note.txt", overwrite=True)
    export_mscxr(written(test=made_by_hand()), tmp_path, overwrite=True)
    assert (tmp_path / "note.txt").read_text() == "mine"
    assert (tmp_path / f"{STEM}.json").is_file()


def test_an_export_that_breaks_off_has_no_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("PIL.Image.Image.save", full)
    with pytest.raises(DataError, match="no space"):
        export_mscxr(written(test=made_by_hand()), tmp_path / "out")
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]


def test_parts_of_a_killed_export_are_removed_by_the_next_one(tmp_path: Path) -> None:
    killed = [tmp_path / folder / f".{'0' * 32}.part.json" for folder in ("", "files/p00")]
    for path in killed:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    export_mscxr(written(test=made_by_hand()), tmp_path, overwrite=True)
    assert not any(path.exists() for path in killed)
    (tmp_path / ".mine.json").touch()
    assert len(CocoDataset(tmp_path).everything) == 1


HOSTILE = ("/etc/x", "../../x", "..", "a/b", "a b", "a_b", "C:\\x", "x" * 300, "\u0000", "", ".hidden", "é\n")


def test_no_id_leaves_the_folder(tmp_path: Path) -> None:
    images = [
        ExportedImage("test", image, patient, (8, 4), ".png", Path.touch, ())
        for image in HOSTILE
        for patient in HOSTILE
    ]
    out = tmp_path / "deep" / "out"
    export_mscxr(images, out)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert all(path.is_relative_to(out) for path in files)
    assert len({str(image.path).lower() for image in images}) == len(images) == len(files) - 2


def test_symbolic_links_are_not_followed(tmp_path: Path) -> None:
    """Neither out of the target, nor from a data set to a file that is not its image."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "files").symlink_to(tmp_path)
    with pytest.raises(UsageError, match=r"files is a symbolic link"):
        export_mscxr(written(test=made_by_hand()), tmp_path / "out", overwrite=True)
    (tmp_path / "secret").write_text("secret")
    Image.new("L", (8, 4)).save(tmp_path / "b.png")
    (tmp_path / "a.png").symlink_to("secret")
    images = [{"id": n, "file_name": f"{name}.png", "width": 8, "height": 4} for n, name in enumerate("ab")]
    rows = [{"image_id": n, "bbox": [0, 0, 2, 2], "phrase": "x"} for n in range(2)]
    (tmp_path / "mine.json").write_text(json.dumps({"images": images, "annotations": rows}))
    assert [image.image_id for image in image_files(CocoDataset(tmp_path), ["test"])] == ["b"]


@pytest.mark.parametrize(
    ("mask", "lengths"),
    [([[0, 1], [0, 1]], [2, 2]), ([[1, 0], [1, 1]], [0, 2, 1, 1]), ([[0, 0], [1, 0]], [1, 1, 2]), ([[1]], [0, 1])],
)
def test_run_lengths_by_hand(mask: list[list[int]], lengths: list[int]) -> None:
    assert run_lengths(np.array(mask, dtype=bool)) == lengths


def test_a_set_of_files_with_a_mask_and_boxes_goes_out_and_comes_back(tmp_path: Path) -> None:
    """A COCO file with one image, two boxes of one phrase and a mask of another: same ids, regions and bytes."""
    home, there, frame = tmp_path / "home", tmp_path / "there", Frame.original((30, 20))
    home.mkdir()
    Image.fromarray(np.arange(600, dtype=np.uint8).reshape(20, 30)).save(home / "a.png")
    polygon = {"bbox": [4, 4, 8, 6], "segmentation": [[4, 4, 12, 4, 12, 10, 4, 10]]}
    regions = {"two nodules": [{"bbox": [1, 2, 5, 6]}, {"bbox": [20, 3, 4, 4]}], "an opacity": [polygon]}
    rows = [
        {"image_id": 1, "category_id": 1, "label_text": text, **region} for text in regions for region in regions[text]
    ]
    images, categories = [{"id": 1, "file_name": "a.png", "width": 30, "height": 20}], [{"id": 1, "name": "Nodule"}]
    coco = {"images": images, "annotations": rows, "categories": categories}
    (home / "boxes.json").write_text(json.dumps(coco))
    before = CocoDataset(home)
    export_mscxr(image_files(before, ["test"]), there)
    after = CocoDataset(there, {"annotations": f"{STEM}.json"})
    both = [sorted(found.everything, key=lambda s: s.sample_id) for found in (before, after)]
    ours, theirs = ([(s.sample_id, s.boxes, s.mask is None) for s in samples] for samples in both)
    assert (ours, len(ours)) == (theirs, 2)
    for one, other in zip(*both, strict=True):
        assert np.array_equal(region_in(one, frame), region_in(other, frame))
        assert Path(str(one.image_path)).read_bytes() == Path(str(other.image_path)).read_bytes()


# Read back and scored


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first studies of the phantom's test split as an MS-CXR tree."""
    folder = tmp_path_factory.mktemp("ms-cxr") / "out"
    export_mscxr([phantom_image("test", study) for study in load_studies(0, "test")[:30]], folder)
    return folder


def scores(tmp_path: Path, method: str, dataset: str, data_root: Path | None, control: str) -> dict[str, dict]:
    table = str(TABLES / "phantom.npz") if method.endswith("prior") else None
    request = RunRequest.of(
        method=method,
        dataset=dataset,
        data_root=data_root,
        limit=6,
        control=control,
        steps=2,
        weights=table,
        runs_dir=tmp_path,
    )
    records = run(prepare(request), request).records
    assert [record.status for record in records] == ["ok"] * 6
    return {record.sample_id: record.metrics for record in records}


@pytest.mark.parametrize(
    ("method", "control"),
    [
        ("phrase-prior", "neutral-phrase"),
        pytest.param("cxrbert-ldm", "none", marks=pytest.mark.slow),
    ],
)
def test_the_same_scores_to_a_millionth(tmp_path: Path, exported: Path, method: str, control: str) -> None:
    ours = scores(tmp_path / "phantom", method, "phantom", None, control)
    theirs = scores(tmp_path / "ms-cxr", method, "ms-cxr", exported, control)
    assert list(ours) == list(theirs)
    for name, metrics in ours.items():
        assert metrics == pytest.approx(theirs[name], abs=1e-6)


def test_the_same_samples_and_pixels(exported: Path) -> None:
    phantom, data = PhantomDataset(), MsCxrDataset(exported)
    samples = data.samples("test")
    wanted = [s for s in phantom.samples("test") if s.image_id in {each.image_id for each in samples}]
    assert [replace(sample, image_path=None) for sample in samples] == wanted
    assert all(np.array_equal(data.image(a), phantom.image(b)) for a, b in zip(samples, wanted, strict=True))
    assert (data.problems, len(samples) > 30) == ([], True)
