"""The phantom exported and read back as MS-CXR: the same samples, and the same scores of priors and of an LDM."""

from __future__ import annotations

from pathlib import Path

import pytest

from gtg_bench.benchmark.datasets.export import export_mscxr, phantom_image
from gtg_bench.benchmark.datasets.phantom.dataset import load_studies
from gtg_bench.benchmark.runs.runner import RunRequest, prepare, run
from gtg_bench.methods.priors import TABLES

LIMIT = 12


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first studies of the phantom's test split as an MS-CXR tree."""
    folder = tmp_path_factory.mktemp("ms-cxr") / "out"
    export_mscxr([phantom_image("test", study) for study in load_studies(0, "test")[:30]], folder)
    return folder


def scores(tmp_path: Path, method: str, dataset: str, data_root: Path | None, control: str) -> dict[str, dict]:
    table = str(TABLES / "phantom.npz") if method.endswith("prior") else None
    request = RunRequest(
        method=method,
        dataset=dataset,
        data_root=data_root,
        limit=LIMIT,
        control=control,
        steps=2,
        weights=table,
        runs_dir=tmp_path,
    )
    records = run(prepare(request), request).records
    assert [record.status for record in records] == ["ok"] * LIMIT
    return {record.sample_id: record.metrics for record in records}


@pytest.mark.parametrize(
    ("method", "control"),
    [
        ("center-prior", "none"),
        ("class-prior", "none"),
        ("phrase-prior", "none"),
        ("phrase-prior", "neutral-phrase"),
        ("cxrbert-ldm", "none"),
    ],
)
def test_the_same_scores_to_a_millionth(tmp_path: Path, exported: Path, method: str, control: str) -> None:
    ours = scores(tmp_path / "phantom", method, "phantom", None, control)
    theirs = scores(tmp_path / "ms-cxr", method, "ms-cxr", exported, control)
    assert list(ours) == list(theirs)
    for name, metrics in ours.items():
        assert metrics == pytest.approx(theirs[name], abs=1e-6)
