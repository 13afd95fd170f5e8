"""Plots, checked through what matplotlib draws: positions, ends of intervals, labels, order, and the canvas."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.cbook import is_math_text
from matplotlib.figure import Figure
from matplotlib.text import Text
from typer.testing import CliRunner

from gtg_bench.benchmark.analysis.thresholds import threshold_curve
from gtg_bench.benchmark.api.errors import DataError, UsageError
from gtg_bench.benchmark.cli import app, plot
from gtg_bench.benchmark.metrics import METRICS
from gtg_bench.benchmark.metrics.masks import fixed_mask
from gtg_bench.benchmark.report import plots
from gtg_bench.benchmark.report.plots import style
from gtg_bench.benchmark.report.plots.bars import BY
from gtg_bench.benchmark.report.training_files import read_training
from gtg_bench.benchmark.runs.lookup import FinishedRun, find_run
from gtg_bench.benchmark.runs.runner import RunRequest, prepare, run
from gtg_bench.benchmark.runs.spec import RunSpec
from gtg_bench.benchmark.scoring.score_map import view
from gtg_bench.benchmark.statistics import bootstrap

Make = Callable[..., RunSpec]
RAMP = np.linspace(0.1, 0.9, 40)


@pytest.fixture
def made(tmp_path: Path, finished: Make) -> Callable[..., FinishedRun]:
    """A finished run, read."""
    return lambda **changes: find_run(tmp_path / "runs", finished(**changes).key)


def texts(figure: Figure) -> list[str]:
    return [found.get_text() for found in figure.findobj(Text) if found.get_text()]


def check_canvas(figure: Figure) -> None:
    """Everything that is drawn is inside the figure, and no text is read as mathematics."""
    figure.draw_without_rendering()
    found = figure.get_tightbbox()
    width, height = figure.get_size_inches()
    assert min(found.x0, found.y0, width - found.x1, height - found.y1) > -0.02, found
    assert not [
        text for text in figure.findobj(Text) if text.get_parse_math() and is_math_text(text.get_text()) is True
    ]


def row_labels(figure: Figure, panel: int = 0) -> list[str]:
    return [label.get_text().replace("\n", " ") for label in figure.axes[panel].get_yticklabels()]


def intervals(figure: Figure, panel: int = 0) -> list[tuple[float, float, float]]:
    """(row, low, high) of the confidence intervals."""
    lines = [c for c in figure.axes[panel].collections if c.get_gid() == "ci"]
    return [(segment[0, 1], *segment[:, 0]) for one in lines for segment in one.get_segments()]


def ends(values: np.ndarray) -> tuple[float, float]:
    """The 95 % CI of a mean over the samples of `finished`."""
    found = bootstrap(list(values), ["A", "B"] * 20, [f"p{k // 2}" for k in range(40)])
    return found.low or 0, found.high or 0


def test_bars_are_means_with_their_intervals(made: Callable[..., FinishedRun]) -> None:
    runs = [made(values=RAMP, method="a"), made(values=RAMP / 2, method="class-prior", sampling=None)]
    figure = plots.bars(runs, "iou")
    bars = figure.axes[0].patches
    assert [bar.get_width() for bar in bars] == pytest.approx([0.5, 0.25])
    assert [bar.get_facecolor()[:3] for bar in bars][1] == pytest.approx([0xB3 / 255] * 3)
    assert [label.split(",")[0] for label in row_labels(figure)] == ["a gt-cfg", "class-prior"]
    assert np.array(intervals(figure)) == pytest.approx(np.array([(0, *ends(RAMP)), (1, *ends(RAMP / 2))]))
    assert figure.axes[0].get_ylim() == (1.5, -0.5), "the first run is at the top"
    assert figure.axes[0].get_xlabel().replace("\n", " ") == f"{style.NAMES['iou']} higher is better"
    caption = next(text for text in texts(figure) if "CI" in text).replace("\n", " ")
    assert "40 samples of 20 patients" in caption
    assert "Grey: priors" in caption
    assert not [text for text in texts(plots.bars(runs, "iou", caption=False)) if "CI" in text]


def test_bars_by_category_and_by_sampling(made: Callable[..., FinishedRun]) -> None:
    runs = [made(values=RAMP, method="a"), made(values=RAMP / 2, method="a", sampling="cfg"), made(method="b")]
    figure = plots.bars(runs, "iou", "category")
    assert row_labels(figure) == ["A", "B"]
    points = [line.get_xdata()[0] for line in figure.axes[0].lines if len(line.get_xdata()) == 1][:4]
    assert points == pytest.approx([RAMP[::2].mean(), RAMP[1::2].mean(), RAMP[::2].mean() / 2, RAMP[1::2].mean() / 2])
    figure = plots.bars(runs, "iou", "sampling")
    assert (row_labels(figure), [text.get_text() for text in figure.legends[0].texts]) == (
        ["a", "b"],
        ["cfg", "gt-cfg"],
    )
    assert row_labels(plots.bars(runs[:2], "iou", "sampling")) == ["cfg", "gt-cfg"]


def test_points_where_zero_is_not_meaningful(toy: Any) -> None:
    run = FinishedRun(toy.run().spec, toy.run().records)
    assert [bool(plots.bars([run], metric).axes[0].patches) for metric in ("auroc", "cnr")] == [False, True]


def test_forest_by_hand(made: Callable[..., FinishedRun]) -> None:
    """B gains 0, 1, 2, 3 or 4 hundredths in turn, so that A - B is -0.02."""
    runs = [made(method="a"), made(gain=0.01, method="b")]
    figure = plots.forest(runs, "iou")
    assert row_labels(figure) == ["All samples (n = 40)", "A (n = 20)", "B (n = 20)"]
    drawn = [line for line in figure.axes[0].lines if len(line.get_xdata()) == 1]
    assert [line.get_xdata()[0] for line in drawn] == pytest.approx([-0.02] * 3)
    assert {line.get_markerfacecolor() for line in drawn} == {style.COLOURS[0]}, "significant"
    same = plots.forest([runs[0], made(method="c")], "iou")
    assert {line.get_markerfacecolor() for line in same.axes[0].lines if len(line.get_xdata()) == 1} == {"white"}
    assert "A - B above 0: A is better" in figure.axes[0].get_xlabel().replace("\n", " ")


def test_the_matrix_of_differences_is_antisymmetric(made: Callable[..., FinishedRun]) -> None:
    figure = plots.significance([made(method="a"), made(gain=0.1, method="b"), made(method="c")], "iou")
    cells = {text.get_position(): text.get_text() for text in figure.axes[0].texts}
    far = plots.significance([made(values=RAMP + 10, method="d"), made(values=RAMP, method="e")], "iou")
    assert "10.00*" in texts(far)
    assert (cells[1, 0], cells[0, 1], cells[2, 0]) == ("\N{MINUS SIGN}.20*", ".20*", ".00")
    assert row_labels(figure)[1] == "2. b gt-cfg"


def test_scatter_shows_pairs_and_counts(made: Callable[..., FinishedRun]) -> None:
    other = RAMP + np.repeat([0.05, 0, -0.01, -0.01], 10)
    a, b = made(values=RAMP, method="a"), made(values=other, method="b")
    figure = plots.scatter(a, b, "iou")
    points = np.array(figure.axes[0].collections[0].get_offsets())
    assert points[np.argsort(points[:, 1])] == pytest.approx(np.stack([other, RAMP], axis=1))
    assert figure.axes[0].get_title(loc="left") == "A better: 20   equal: 10   B better: 10"
    assert figure.axes[0].get_xlim() == figure.axes[0].get_ylim()


def test_distribution_functions_and_boxes(made: Callable[..., FinishedRun]) -> None:
    run = made(values=RAMP)
    line = plots.distribution([run], "iou").axes[0].lines[0]
    assert np.interp(0.5, line.get_xdata(), line.get_ydata()) == pytest.approx(0.5, abs=0.026)
    many = [made(values=RAMP * k / 10, method=f"m{k}") for k in range(1, 9)]
    figure = plots.distribution(many, "iou")
    medians = [line.get_xdata() for line in figure.axes[0].lines if line.get_color() == "black"]
    assert row_labels(figure)[0] == "m1 gt-cfg"
    assert min(abs(np.array(found) - 0.05).max() for found in medians if len(found) == 2) < 1e-9


def test_steps_by_hand(made: Callable[..., FinishedRun], tmp_path: Path) -> None:
    for number in (4, 2, 8):
        made(values=RAMP + number / 100, steps=number)
    for number in (1, 2):
        made(values=RAMP - number / 100, last_steps=number)
    made(values=RAMP, steps=4, bbm="mixture")
    over = plots.sweeps(tmp_path / "runs", dataset="d")
    assert [(one.over, one.name, list(one.runs)) for one in over] == [
        ("steps", "ours gt-cfg", [2, 4, 8]),
        ("last_steps", "ours gt-cfg", [1, 2, 8]),
    ]
    figure = plots.steps(over, ["iou"])
    first, second = (axes.lines[0] for axes in figure.axes)
    assert (list(first.get_xdata()), list(first.get_ydata())) == ([2, 4, 8], pytest.approx([0.52, 0.54, 0.58]))
    assert list(second.get_ydata()) == pytest.approx([0.49, 0.48, 0.58])
    assert figure.axes[1].get_xlabel() == "Last n of 8 steps"
    with pytest.raises(UsageError, match="--steps 5"):
        plots.sweeps(tmp_path / "runs", ["cxrbert-ldm"], "d")


def test_threshold_curve_against_masks(toy: Any) -> None:
    result = toy.run()
    run = FinishedRun(result.spec, result.records)
    curve = threshold_curve(toy.folder / "runs", run, thresholds=(0.2, 0.5))
    prepared, found = prepare(toy.request()), []
    for trial, grounding in prepared.source.maps(prepared.trials, pytest.fail):  # type: ignore[arg-type]
        scene = view(grounding, trial, prepared.rules).scene
        mask = fixed_mask(scene.values, 0.5)
        found.append((mask & scene.region).sum() / (mask | scene.region).sum())
    dice = [2 * one / (1 + one) for one in found]
    assert (curve.iou[1].value, curve.dice[1].value) == pytest.approx((np.mean(found), np.mean(dice)))
    assert curve.own[0].value == pytest.approx(np.mean([record.metrics["iou"] for record in result.records]))
    figure = plots.thresholds([run], [curve])
    marks = [line for line in figure.axes[0].lines if len(line.get_xdata()) == 1]
    assert (marks[0].get_xdata()[0], marks[0].get_ydata()[0]) == (curve.own_thresholds[1], curve.own[0].value)
    check_canvas(figure)


def test_training_curves(tmp_path: Path) -> None:
    work = tmp_path / "mine_$x$" / "work"
    work.mkdir(parents=True)
    (work / "curve.csv").write_text("step,loss\n10,0.9\n20,0.5\n")
    (work / "validation.jsonl").write_text('{"step": 10, "cnr": 0.4, "loss": 0.8}\n{"step": 20, "cn')
    (tmp_path / "card.json").write_text(json.dumps({"loss_curve": [[5, 1.0]], "validation_curve": None}))
    figure = plots.training([work.parent, tmp_path])
    assert [list(line.get_ydata()) for line in figure.axes[0].lines] == [[0.9, 0.5], [1.0]]
    assert figure.axes[1].lines[0].get_xydata().tolist() == [[10, 0.4]]
    assert read_training(work) == read_training(work.parent)
    check_canvas(figure)


@pytest.mark.parametrize("number", [1, 3, 12])
@pytest.mark.parametrize("width", ["column", "page"])
def test_no_text_leaves_the_canvas(made: Callable[..., FinishedRun], number: int, width: str) -> None:
    name = "my_$method$-with-a-name-that-is-much-too-long-for-a-column-of-a-paper"
    runs = [made(method=name if k == 1 else f"method-{k}", gain=k / 100, seed=k, steps=k + 1) for k in range(number)]
    look: dict[str, Any] = {"width": width}
    figures = [plots.bars(runs, "iou", by, **look) for by in ("method", "category", "sampling")]
    figures += [plots.distribution(runs, "iou", **look)]
    if number > 1:
        figures += [plots.forest(runs, "iou", **look), plots.significance(runs, "iou", **look)]
        figures += [plots.scatter(*runs[:2], "iou", **look)]
    for figure in figures:
        check_canvas(figure)
        assert figure.get_size_inches()[0] == style.WIDTHS[width]
        assert figure.get_size_inches()[1] < 11


def test_names_of_metrics_and_options() -> None:
    assert set(style.NAMES) == set(METRICS)
    assert (tuple(style.WIDTHS), BY) == (plot.WIDTHS, plot.BY), "the command line imports no matplotlib"
    assert set(style.CHANCE) | set(style.NOT_FROM_ZERO) <= set(METRICS)


def test_runs_without_a_value_are_left_out_by_default(toy: Any) -> None:
    """The CNR of constant maps is undefined, their IoU is not."""
    toy.run()
    for one in ("uniform", "center-prior"):
        request = RunRequest.of(one, limit=12, runs_dir=toy.folder / "runs")
        run(prepare(request), request)
    for metric, number in (("cnr", 2), (None, 2), ("iou", 3)):
        assert len(plots.find_runs(toy.folder / "runs", metric=metric)) == number
    with pytest.raises(DataError, match="cnr is undefined for every sample of uniform"):
        plots.distribution(plots.find_runs(toy.folder / "runs", ["center-prior", "uniform"]), "cnr")


def test_default_runs(made: Callable[..., FinishedRun], tmp_path: Path) -> None:
    """Methods by score, priors last, seeds as one; controls after their method, where they are wanted."""
    for seed in (1, 2):
        made(method="a", values=RAMP, seed=seed)
    made(method="class-prior", values=RAMP + 0.1, sampling=None)
    made(method="a", values=RAMP, control="phrase-swap")
    made(method="b", values=RAMP, protocol="strict", frame="original")
    runs = plots.find_runs(tmp_path / "runs", metric="iou")
    assert [(run.spec.method, len(run.parts)) for run in runs] == [("a", 2), ("class-prior", 0)]
    with pytest.raises(UsageError, match="needs 3 runs, not 2; make them with `gtg-bench run"):
        plots.find_runs(tmp_path / "runs", at_least=3, metric="iou")
    with pytest.raises(UsageError, match="no finished run on e"):
        plots.find_runs(tmp_path / "runs", dataset="e")


def test_of_equally_common_definitions_the_default_is_shown(made: Callable[..., FinishedRun], tmp_path: Path) -> None:
    for rules in ({"mask": "0.1"}, {"mask": "0.2"}, {"smooth": "0.1"}, {}, {"smooth": "0.2"}, {"frame": "original"}):
        made(method="a", values=RAMP, **rules)
    (run,) = plots.find_runs(tmp_path / "runs", metric="iou")
    assert (run.spec.mask, run.spec.smooth, run.spec.frame) == ("mixture", "0", "crop512")


def command(*words: object) -> Any:
    return CliRunner().invoke(app, [*map(str, words)], env={"COLUMNS": "80"})


def test_every_kind_on_the_command_line(tmp_path: Path) -> None:
    place = ["--runs-dir", tmp_path / "runs"]
    words = ["run", "-m", "class-prior", "-m", "center-prior", "--limit", "12", "--leaderboards-dir", tmp_path]
    assert command(*words, *place).exit_code == 0
    for kind in ("bars", "forest", "scatter", "distribution", "significance", "thresholds"):
        done = command("plot", kind, "--out", tmp_path / f"{kind}.svg", "--out", tmp_path / f"{kind}.png", *place)
        assert done.exit_code == 0, done.output
        drawn = (tmp_path / f"{kind}.svg").read_text()
        assert re.search("<text[^<]*class-prior", drawn), "text stays text"
    done = command("plot", "bars", "class-prior", "--by", "category", "--out", tmp_path / "b.pdf", *place)
    assert done.exit_code == 0, done.output
    assert b"/CIDFontType2" in (tmp_path / "b.pdf").read_bytes()
    from PIL import Image

    with Image.open(tmp_path / "bars.png") as image:
        assert (image.width, round(image.info["dpi"][0])) == (1020, 300)
    for words, message in (
        (["bars", "--out", "a.gif"], "a.gif"),
        (["bars", "--out", "a.png", "--metric", "iuo"], "iou"),
        (["bars", "--out", "a.png", "--metric", "cnr", "--metric", "iou"], "one metric"),
        (["scatter", "class-prior", "--out", "a.png"], "two runs"),
        (["forest", "class-prior", "--out", "a.png"], "gtg-bench run"),
        (["steps", "class-prior", "--out", "a.png"], "no denoising steps"),
        (["steps", "--out", "a.png"], "--steps"),
        (["training", tmp_path, "--out", "a.png"], "card.json"),
    ):
        done = command("plot", *words, *place)
        assert (done.exit_code, message in done.stderr) == (2, True), done.output
