"""The paper's figures from a tiny model, on the command line and through what they draw."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from matplotlib.text import Text
from typer.testing import CliRunner

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.api.registry import METHODS
from gtg_bench.benchmark.cli import app
from gtg_bench.benchmark.datasets import load_dataset
from gtg_bench.benchmark.report.plots import paper_maps
from gtg_bench.benchmark.runs.runner import RunRequest, prepare, run
from gtg_bench.methods.ldm import ldm_entry


@pytest.fixture
def tiny(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Weights of the registered method `tiny-ldm`."""
    monkeypatch.setattr(METHODS, "_registered", {"tiny-ldm": ldm_entry("tiny-ldm", "a test")})
    return str(folder)


def titles(figure: Any) -> list[str]:
    return [found.get_text() for found in figure.findobj(Text) if found.get_text()]


def test_figure_3_has_the_cnr_of_a_run(tiny: str, tmp_path: Path) -> None:
    dataset, request = load_dataset("phantom"), RunRequest.of("tiny-ldm", weights=tiny, limit=2, runs_dir=tmp_path)
    sample = dataset.samples("test")[0]
    method = paper_maps.ready("tiny-ldm:bbm=none", weights=tiny, dataset="phantom")
    figure = paper_maps.figure3(dataset, "test", [sample], [method])
    record = run(prepare(request), request).records[0]
    assert f"CNR = {record.metrics['cnr']:.2f}" in titles(figure)
    assert {"Input", "tiny-ldm:bbm=none", sample.category, f"“{sample.phrase}”"} <= set(titles(figure))


def test_figures_of_words_and_layers(tiny: str) -> None:
    dataset = load_dataset("phantom")
    (sample,) = paper_maps.chosen(dataset, "test", [])
    assert len(sample.phrase.split()) == max(len(one.phrase.split()) for one in dataset.samples("test"))
    method = paper_maps.ready("tiny-ldm", weights=tiny, dataset="phantom", layers="all", steps=2)
    assert {"[start]", "[end]", *sample.phrase.split()[1:3]} <= set(titles(paper_maps.figure2(dataset, sample, method)))
    first, _, last = method.method.innermost_layers()
    assert {"All layers", f"Layers {first} to {last}"} <= set(titles(paper_maps.figure6(dataset, sample, [method])))
    with pytest.raises(UsageError, match="class-prior has no cross-attention"):
        paper_maps.figure2(dataset, sample, paper_maps.ready("class-prior", dataset="phantom"))


def test_samples_of_figure_3_are_the_first_of_the_papers_findings() -> None:
    dataset = load_dataset("phantom")
    found = paper_maps.chosen(dataset, "test", [], paper_maps.CATEGORIES_OF_3)
    assert [sample.category for sample in found] == list(paper_maps.CATEGORIES_OF_3)
    assert paper_maps.chosen(dataset, "test", [found[1].sample_id]) == [found[1]]


def test_every_figure_on_the_command_line(tiny: str, tmp_path: Path) -> None:
    usual = ["-m", "tiny-ldm", "--weights", tiny, "--runs-dir", str(tmp_path / "runs")]
    for words in (
        ["2"],
        ["3"],
        ["6"],
        ["4", "--limit", "2", "--steps", "1,2"],
        ["5", "--limit", "2", "--steps", "1,65"],
    ):
        path = tmp_path / f"{words[0]}.svg"
        done = CliRunner().invoke(app, ["figure", *words, *usual, "--out", str(path)])
        assert done.exit_code == 0, done.output
        assert f"Figure {words[0]}, measured here" in " ".join(path.read_text(encoding="utf-8").split())
    for words, message in (
        (["1"], "choose from"),
        (["2", "--sample", "none"], "none"),
        (["4", "--steps", "0,1"], "--steps"),
        (["5", "-m", "class-prior"], "one method"),
        (["2", "--cmap", "jett"], "jet"),
    ):
        done = CliRunner().invoke(app, ["figure", *words, *usual, "--out", str(tmp_path / "a.png")])
        assert (done.exit_code, message in done.stderr) == (2, True), done.output
