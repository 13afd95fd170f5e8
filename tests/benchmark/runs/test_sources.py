"""Sources of maps: the ceiling paints what was drawn, where something was drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import gtg_bench
from gtg_bench.benchmark.api import UsageError
from gtg_bench.benchmark.datasets import load_dataset


def test_the_ceiling_is_the_lesion_in_cells(tmp_path: Path) -> None:
    result = gtg_bench.evaluate("oracle-lesion", "phantom", limit=8, runs_dir=tmp_path)
    phantom = load_dataset("phantom")
    for sample, record in zip(phantom.samples("test")[:8], result.records, strict=True):
        lesion = phantom.lesion(sample)  # type: ignore[attr-defined]
        cells = [[lesion[4 * y : 4 * y + 4, 4 * x : 4 * x + 4].mean() for x in range(32)] for y in range(32)]
        assert np.allclose(result.map(sample.sample_id).values, cells, atol=1e-3)
        assert record.metrics["top1"] == 1


def test_the_ceiling_is_refused_where_nothing_is_known(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="control"):
        gtg_bench.evaluate("oracle-lesion", "phantom", control="phrase-swap", runs_dir=tmp_path)
    with pytest.raises(UsageError, match="phantom"):
        gtg_bench.load_method("oracle-lesion")
