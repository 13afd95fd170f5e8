"""What a run shows: its row, controls and priors in 15 lines of 80 columns, and labels that tell rows apart."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from gtg_bench.benchmark.api import METHODS, MethodSettings, SampleRecord
from gtg_bench.benchmark.cli import app
from gtg_bench.benchmark.report import leaderboard
from gtg_bench.benchmark.report.tables.document import HEADINGS
from gtg_bench.benchmark.report.tables.run_table import LINES, show_runs
from gtg_bench.benchmark.runs.labels import labels
from gtg_bench.benchmark.runs.records import RunFolder
from gtg_bench.benchmark.runs.spec import RunSpec
from gtg_bench.benchmark.scoring.controls import CONTROLS
from gtg_bench.benchmark.scoring.protocols import PROTOCOLS

Row = dict[str, str]
USUAL = METHODS.get("cxrbert-ldm").completed(MethodSettings("cxrbert-ldm", dataset="phantom"))
LONG = {"weights": "checkpoints/" + "long-" * 12 + "name", "weights_version": "1", "steps": 4, "last_steps": 2}


@pytest.fixture
def measure(tmp_path: Path) -> Callable[..., Row]:
    """Writes the row of a run of cxrbert-ldm, or of another method, on the phantom's test split."""

    def make(n: int = 383, **changes: Any) -> Row:
        plain = RunSpec("phantom", "2", "", "s", None, "test", None, USUAL).as_json()
        if changes.get("method", "cxrbert-ldm") != "cxrbert-ldm":
            plain |= dict.fromkeys(USUAL.as_json()) | {"seed": 4200}
        spec = RunSpec.from_json(plain | changes)
        metrics = dict.fromkeys(PROTOCOLS[spec.protocol].metrics, 0.5)
        records = [SampleRecord(str(k), "i", f"p{k}", "A", "ok", metrics | {"cnr": 1 + k / 1000}) for k in range(n)]
        return leaderboard.update(tmp_path / "boards", spec, records)

    return make


def shown(folder: Path, *rows: Row, width: int = 80) -> list[str]:
    console = Console(width=width, file=io.StringIO(), force_terminal=False)
    show_runs(rows, folder / "boards", console)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]


def table(lines: list[str]) -> list[str]:
    """The rows between the rule below the header and the caption."""
    start = next(i for i, line in enumerate(lines) if line.startswith("──"))
    return lines[start + 1 : next(i for i, line in enumerate(lines) if "half-width" in line)]


def test_a_run_is_shown_with_shipped_controls_and_priors(tmp_path: Path, measure: Callable[..., Row]) -> None:
    lines = shown(tmp_path, measure())
    found = table(lines)
    assert [line.split()[0] for line in found] == [
        *("oracle-lesion†", "cxrbert-ldm", "neutral-phrase†", "phrase-swap†", "image-swap†", "side-swap†"),
        *("center-prior†", "class-prior†", "phrase-prior†"),
    ]
    assert [line.count("±") for line in found] == [6] * len(found)
    with (leaderboard.REFERENCE / "phantom.csv").open(newline="") as file:
        wanted = next(r for r in csv.DictReader(file) if (r["method"], r["control"]) == ("phrase-prior", "none"))
    half = (float(wanted["cnr_high"]) - float(wanted["cnr_low"])) / 2
    assert f"{float(wanted['cnr']):.3f}±{half:.3f}".replace("±0.", "±.") in found[-1]
    assert len(lines) <= LINES
    assert str(tmp_path / "boards" / "phantom.csv") in "\n".join(lines)


def test_the_users_rows_replace_shipped_ones_and_other_settings_are_not_shown(
    tmp_path: Path, measure: Callable[..., Row]
) -> None:
    measure(control="image-swap", samples_sha256="t")
    measure(control="phrase-swap", bbm="mixture")
    measure(method="phrase-prior")
    measure(method="biovil")
    lines = shown(tmp_path, measure())
    assert any(line.startswith("  image-swap ") for line in lines)
    assert any(line.startswith("  phrase-swap† ") for line in lines)
    assert any(line.startswith("phrase-prior ") for line in lines)
    assert not any("biovil" in line or "mixture" in line for line in lines)
    alone = shown(tmp_path, measure(steps=3, last_steps=None))
    priors = ["center-prior†", "class-prior†", "phrase-prior"]
    assert [line.split()[0] for line in table(alone)] == ["oracle-lesion†", "cxrbert-ldm", "steps", *priors]
    assert "cxrbert-ldm" not in "".join(shown(tmp_path, measure(method="biovil", dataset_options="seed=9")))


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("settings", [{}, LONG, {"control": "phrase-swap"}, {"seed": 1, "limit": 5}])
def test_at_most_15_lines_of_80_columns(
    tmp_path: Path, measure: Callable[..., Row], protocol: str, settings: dict[str, Any]
) -> None:
    rules = PROTOCOLS[protocol]
    used = {"protocol": protocol, "frame": rules.frame, "mask": rules.mask, **settings}
    for control in CONTROLS:
        measure(8, **used | {"control": control})
    for method in ("center-prior", "class-prior", "phrase-prior"):
        measure(8, method=method, **used | {"weights": None, "control": "none", "steps": None, "last_steps": None})
    lines = shown(tmp_path, measure(8, **used))
    assert len(lines) <= LINES
    path = str(tmp_path)
    assert max(len(line) for line in lines if path not in line) <= 80
    assert HEADINGS.get(rules.primary, rules.primary) in lines[1].split()


def test_several_runs_share_a_table_and_are_never_left_out(tmp_path: Path, measure: Callable[..., Row]) -> None:
    methods = [f"m{k}" for k in range(14)]
    lines = shown(tmp_path, measure(8), *(measure(8, method=name) for name in methods))
    assert [line.split()[0] for line in table(lines)] == ["cxrbert-ldm", *methods]
    lines = shown(tmp_path, measure(method="phrase-prior"), measure(method="center-prior"))
    assert [line.split()[0] for line in lines].count("phrase-prior") == 1


def test_weights_of_other_training_are_named_in_each_row(tmp_path: Path, measure: Callable[..., Row]) -> None:
    lines = shown(tmp_path, measure(), measure(method="radbert-ldm", weights="phantom-quick"), width=120)
    for name, weights in (("cxrbert-ldm", "phantom-varied"), ("radbert-ldm", "phantom-quick")):
        assert any(line.startswith(name) and f"weights {weights} " in line for line in lines)


def test_a_control_of_fewer_samples_has_the_plain_run_on_the_same_ones(tmp_path: Path) -> None:
    """Six of nine phrases name a side; the plain run scores 1 on these and 0 elsewhere."""
    phrases = ["left effusion", "right effusion", "edema"]
    spec = RunSpec("phantom", "2", "", "s", None, "test", None, MethodSettings("mine"))
    metrics = dict.fromkeys(PROTOCOLS["gtg"].metrics, 0.5)
    records = [
        SampleRecord(str(k), "i", f"p{k}", "A", "ok", metrics | {"cnr": float(k % 3 < 2)}, phrase=phrases[k % 3])
        for k in range(9)
    ]
    folder = RunFolder(tmp_path / "runs", spec)
    folder.open("cpu")
    folder.append(records)
    folder.finish()
    plain = leaderboard.update(tmp_path / "boards", spec, records)
    named = [record for record in records if record.phrase != "edema"]
    control = leaderboard.update(tmp_path / "boards", replace(spec, control="side-swap"), named)
    for where in (tmp_path / "runs", None):
        console = Console(width=80, file=io.StringIO(), force_terminal=False)
        show_runs([plain, control], tmp_path / "boards", console, where)
        lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
        same = [line.split() for line in lines if "plain, same n=6" in line]
        assert [words[5][:5] for words in same] == ["1.000"] * (where is not None)
        assert any("only 6 patients: unreliable CI" in line for line in lines)
        assert len(lines) <= LINES


def test_text_from_users_is_escaped_and_missing_values_are_dashes(tmp_path: Path, measure: Callable[..., Row]) -> None:
    lines = shown(tmp_path, measure(method="[bold]m[/bold]", weights="[red]w", n=1))
    assert any(line.startswith("[bold]m[/bold]") for line in lines)
    assert "±" not in next(line for line in lines if line.startswith("[bold]m"))
    empty = shown(tmp_path, measure(method="broken", n=0))
    assert next(line for line in empty if line.startswith("broken")).split()[1:] == ["n=0", *["-"] * 6]


def row(**changes: Any) -> dict[str, Any]:
    return {**USUAL.as_json(), "dataset": "phantom", "control": "none", **changes}


def test_labels_name_what_is_not_the_default_and_what_differs() -> None:
    plain, quick = row(), row(steps=4, last_steps=None)
    assert labels([plain]) == [["cxrbert-ldm gt-cfg"]]
    assert labels([quick]) == [["cxrbert-ldm gt-cfg", "steps 4"]]
    assert labels([row(last_steps=None)]) == [["cxrbert-ldm gt-cfg", "last_steps all"]]
    assert labels([plain, quick]) == [
        ["cxrbert-ldm gt-cfg", "steps 8", "last_steps 2"],
        ["cxrbert-ldm gt-cfg", "steps 4", "last_steps all"],
    ]
    mine = row(weights="mine", weights_version="1", tokens="all", seed=7)
    assert labels([mine]) == [["cxrbert-ldm gt-cfg", "weights mine", "tokens all", "seed 7"]]
    assert [found[1] for found in labels([plain, mine])] == ["weights phantom-varied", "weights mine"]
    assert [found[-1] for found in labels([mine, mine | {"weights_version": "2"}])] == [
        *("weights_version 1", "weights_version 2"),
    ]
    assert labels([row(method="unheard", seed=3, sampling=None)]) == [["unheard"]]
    as_text = {
        name: "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
        for name, value in quick.items()
    }
    assert labels([as_text]) == labels([quick])


def test_a_whole_leaderboard(tmp_path: Path, measure: Callable[..., Row]) -> None:
    measure(8)
    measure(8, steps=4, last_steps=None)
    measure(8, control="phrase-swap")
    measure(8, limit=3)
    words = ["table", "--leaderboards-dir", str(tmp_path / "boards")]
    said = CliRunner().invoke(app, words, env={"COLUMNS": "80"}).output
    assert said.count("cxrbert-ldm gt-cfg") == 3
    assert "cxrbert-ldm gt-cfg, steps 4" in said
    assert "first 3 samples" in said
    assert str(tmp_path) in said.replace("\n", "")
    limited = CliRunner().invoke(app, [*words, "--where", "limit=3", "--format", "csv"]).output
    assert {found["data"] for found in csv.DictReader(io.StringIO(limited))} == {
        "phantom v2, test split, first 3 samples"
    }
    shipped = CliRunner().invoke(app, [*words, "--reference"], env={"COLUMNS": "80"}).output
    assert shipped.count("biovil-l, weights phantom") == 1
    assert "(n = 225 to 383): `gtg-bench compare`" in " ".join(shipped.split())
    strict = CliRunner().invoke(app, [*words, "--protocol", "strict"], env={"COLUMNS": "80"}).output
    assert "coverage" in strict
    assert max(map(len, strict.splitlines())) <= 80
    assert "shipped" in shipped
