"""The table of smoothings: a column group each, every method once, the same samples only."""

from __future__ import annotations

from pathlib import Path

import pytest

from gtg_bench.benchmark.api import MethodSettings, SampleRecord, UsageError
from gtg_bench.benchmark.report import leaderboard
from gtg_bench.benchmark.report.tables.smoothing_table import smoothing_document
from gtg_bench.benchmark.runs.spec import RunSpec
from gtg_bench.benchmark.scoring.protocols import PROTOCOLS


def measure(
    folder: Path, method: str, smooth: str, cnr: float, limit: int | None = None, control: str = "none"
) -> None:
    spec = RunSpec("phantom", "1", "", "s", None, "test", limit, MethodSettings(method), smooth=smooth, control=control)
    metrics = dict.fromkeys(PROTOCOLS["gtg"].metrics, 0.5) | {"cnr": cnr}
    leaderboard.update(folder, spec, [SampleRecord(f"{k}", "i", f"p{k}", "A", "ok", metrics) for k in range(6)])


def test_each_method_at_each_smoothing(tmp_path: Path) -> None:
    for method, smooth, cnr in (
        *(("one", "0", 1.0), ("two", "0", 1.5), ("one", "0.06", 2.0), ("two", "0.06", 1.75)),
        *(("one", "best:0.08", 2.25), ("oracle-lesion", "0", 3.0)),
    ):
        measure(tmp_path, method, smooth, cnr)
    measure(tmp_path, "one", "0.06", 9.0, control="phrase-swap")
    measure(tmp_path, "three", "0.1", 9.0, limit=3)
    (block,) = smoothing_document(tmp_path, "phantom", {}, "gtg", False, ["cnr"]).blocks
    assert [column.group for column in block.columns] == ["not smoothed", "all at 0.06", "own best"]
    assert {row.label: [cell.shown for cell in row.cells] for row in block.rows} == {
        "oracle-lesion": ["3.000", "-", "-"],
        "one, best 0.08": ["1.000", "2.000", "2.250"],
        "two": ["1.500", "1.750", "-"],
    }
    assert block.rows[0].label == "oracle-lesion"


def test_what_cannot_be_shown(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="smooth"):
        smoothing_document(tmp_path, "phantom", {"smooth": "0"}, "gtg", False)
    with pytest.raises(UsageError, match="auroc"):
        smoothing_document(tmp_path, "phantom", {}, "gtg", True, ["aurok"])
