"""Tables: the paper's layouts filled from a leaderboard, and any two columns of one, in four formats."""

from __future__ import annotations

import csv
import io
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from gtg_bench.benchmark.api import UsageError
from gtg_bench.benchmark.api.text import csv_text
from gtg_bench.benchmark.cli import app
from gtg_bench.benchmark.report.leaderboard import SAMPLES, categories_of, path_of
from gtg_bench.benchmark.report.tables.document import Block, Cell, Document
from gtg_bench.benchmark.report.tables.paper_layouts import LAYOUTS
from gtg_bench.benchmark.report.tables.paper_tables import averages, paper_table
from gtg_bench.benchmark.report.tables.pivot import pivot
from gtg_bench.benchmark.report.tables.published import AVERAGE, figures
from gtg_bench.benchmark.report.tables.render import (
    WRITERS,
    show,
    to_csv,
    to_latex,
    to_markdown,
)
from gtg_bench.benchmark.report.tables.selection import Board, load
from gtg_bench.benchmark.runs.spec import COLUMNS
from gtg_bench.benchmark.scoring.protocols import PROTOCOLS, RULES

Fields = dict[str, str]
Make = Callable[..., Board]
LDM = {"sampling": "gt-cfg", "tokens": "lexical", "bbm": "none", "layers": "3,4", "steps": "8", "weights": "phantom"}
METRICS = ("miou", "cnr", "top1", "auroc")


def row(method: str, number: float, **fields: str) -> Fields:
    """A leaderboard row whose metrics are `number`, `number` + 0.1 and so on."""
    values = {name: f"{number + i / 10:.5f}" for i, name in enumerate(METRICS)}
    usual = {"dataset": "phantom", "dataset_version": "1", "split": "test", "control": "none", "seed": "4200"}
    counts = {"n_total": "9", "n_ok": "9", "n_unscorable": "0", "n_failed": "0", "n_patients": "9"}
    found = {**usual, **counts, **values, "method": method, **fields}
    key = "-".join(found[name] for name in COLUMNS if found.get(name))
    return {**found, "run_key": found.get("run_key", key)}


@pytest.fixture
def board(tmp_path: Path) -> Make:
    """Writes a leaderboard and its categories, and loads it."""

    def make(rows: list[Fields], where: Fields | None = None, dataset: str = "phantom") -> Board:
        files: dict[Path, list[Fields]] = {}
        for given in rows:
            rules = PROTOCOLS[given.get("protocol", "gtg")]
            usual = {name: getattr(rules, name) for name in RULES}
            usual |= {"protocol": rules.name, "protocol_version": str(rules.version), **dict.fromkeys(SAMPLES, "")}
            found = {**usual, **given, "dataset": dataset}
            path = path_of(tmp_path, found)
            files.setdefault(path, []).append(found)
            for name in ("Edema", "Pleural Effusion", "Nodule"):
                files.setdefault(categories_of(path), []).append({**found, "category": name})
        for path, written in files.items():
            columns = list(dict.fromkeys(key for fields in written for key in fields))
            with path.open("w", newline="") as file:
                writer = csv.DictWriter(file, columns, restval="")
                writer.writeheader()
                writer.writerows(written)
        return load(tmp_path, dataset, where or {})

    return make


def cell(block: Block, label: str, group: str, name: str, section: str = "", origin: str = "") -> Cell:
    """The cell at a row's label and a column's headings."""
    line = next(found for found in block.rows if (found.section, found.label) == (section, label))
    places = [
        i
        for i, column in enumerate(block.columns)
        if (column.group, column.name) == (group, name) and origin in ("", column.origin)
    ]
    assert len(places) == 1
    return line.cells[places[0]]


def terminal(document: Document, width: int = 80) -> str:
    console = Console(width=width, file=io.StringIO(), force_terminal=False)
    show(document, console)
    return console.file.getvalue()  # type: ignore[attr-defined]


def notes(document: Document) -> str:
    return "\n".join(text for _, text in document.notes)


def read_csv(text: str) -> list[Fields]:
    return list(csv.DictReader(io.StringIO(text)))


# what is shown where


def test_the_phantom_and_ms_cxr_never_share_a_table(board: Make) -> None:
    here = board([row("cxrbert-ldm", 0.5, **LDM)])
    for number in LAYOUTS:
        document = paper_table(number, here)
        for block in document.blocks:
            assert len({column.origin for column in block.columns}) == 1
            published = block.columns[0].origin == "published"
            assert block.title.startswith("PUBLISHED: the paper" if published else "MEASURED here on phantom v1, test")
            assert ("phantom" in block.title) != published
        assert "cannot be compared" in notes(document)
        for text in (terminal(document), *(writer(document) for writer in WRITERS.values())):
            assert "phantom v1, test split" in text
        shown = [found.figure for line in document.blocks[0].rows for found in line.cells]
        spreads = [f"±{figure.spread.removeprefix('0')}" if figure.spread else "" for figure in figures(number)]
        used = {
            letter for block in document.blocks[:1] for part in (*block.columns, *block.rows) for letter in part.note
        }
        used |= {letter for line in document.blocks[0].rows for found in line.cells for letter in found.note}
        assert used == {letter for letter, _ in document.notes if letter}
        assert shown == [figure.value + spread for figure, spread in zip(figures(number), spreads, strict=True)]


def test_table_1_takes_categories_and_averages_from_the_leaderboard(board: Make) -> None:
    document = paper_table(1, board([row("cxrbert-ldm", 0.5, **LDM, miou_freq2="0.61000", miou_macro="0.62000")]))
    measured = document.blocks[1]
    assert cell(measured, "Edema", "CXR-BERT-LDM", "mIoU").shown == "0.500"
    assert cell(measured, "Pl. Effusion", "CXR-BERT-LDM", "CNR").exact == "0.60000"
    assert cell(measured, AVERAGE, "CXR-BERT-LDM", "mIoU").shown == "0.610"
    assert cell(measured, "Macro average", "CXR-BERT-LDM", "mIoU").shown == "0.620"
    assert cell(measured, "Mean over samples", "CXR-BERT-LDM", "mIoU").shown == "0.500"
    assert cell(measured, "Nodule", "CXR-BERT-LDM", "mIoU").n == "9"
    assert "Nodule" not in {line.label for line in document.blocks[0].rows}


# added runs


OWN = {"split": "all", "miou_freq2": "0.61000", "miou_freq2_low": "0.60000", "miou_freq2_high": "0.62000"}


def test_an_added_run_is_a_column_beside_the_published_ones(board: Make) -> None:
    document = paper_table(1, board([row("mine", 0.5, **OWN)], dataset="ms-cxr"), add=["mine"])
    (block,) = document.blocks
    assert [c.origin for c in block.columns] == ["published"] * 10 + ["measured"] * 2
    assert cell(block, AVERAGE, "mine", "mIoU").interval == "[0.600, 0.620]"
    assert cell(block, "Pl. Effusion", "mine", "CNR").shown == "0.600"
    assert cell(block, "Edema", "BioVil", "mIoU").shown == "0.281"
    origins = {csv_text(line["column"]): line["origin"] for line in read_csv(to_csv(document)) if line["value"]}
    assert origins == {c.group: c.origin for c in block.columns}


def test_an_added_run_is_a_row_below_the_published_ones(board: Make) -> None:
    rows = [row("mine", 0.5, **OWN), row("mine", 0.3, **OWN | {"tokens": "disease"})]
    document = paper_table(2, board(rows, dataset="ms-cxr"), add=["mine:tokens=disease", rows[0]["run_key"]])
    (block,) = document.blocks
    assert [(column.group, column.name) for column in block.columns] == [
        *(("", "mIoU"), ("", "Top-1"), ("", "AUC-ROC"), ("", "CNR"))
    ]
    *published, first, second = block.rows
    assert {line.section for line in (first, second)} & {line.section for line in published} == set()
    assert (first.label, second.label) == ("mine, tokens disease", f"mine {rows[0]['run_key']}")
    assert [(line.cells[0].shown, line.cells[0].run_key) for line in (first, second)] == [
        ("0.610", found["run_key"]) for found in rows[::-1]
    ]
    shown = {line["row"]: line["origin"] for line in read_csv(to_csv(document)) if line["value"]}
    assert (shown["CLIP"], shown[first.label]) == ("published", "measured")


def test_an_added_run_on_other_data_is_not_beside_the_published_ones(board: Make) -> None:
    for number in LAYOUTS:
        document = paper_table(number, board([row("mine", 0.5), row("cxrbert-ldm", 0.4, **LDM)]), add=["mine"])
        for block in document.blocks:
            assert len({column.origin for column in block.columns}) == 1
        names = [line.label for line in document.blocks[1].rows] + [c.group for c in document.blocks[1].columns]
        assert "mine" in names


def test_a_run_that_cannot_be_added_is_named(board: Make) -> None:
    here = board([row("mine", 0.5), row("other", 0.4)])
    for name, message in (("mine2", "did you mean mine"), ("mine:seed=9", "seed=9"), ("mine:sede=9", "'sede'")):
        with pytest.raises(UsageError, match=message):
            paper_table(2, here, add=[name])


def test_what_was_not_measured_is_a_dash(board: Make, tmp_path: Path) -> None:
    for number in LAYOUTS:
        document = paper_table(number, board([row("center-prior", 0.5)]))
        for block in document.blocks[1:]:
            assert {found.shown for line in block.rows for found in line.cells} == {"-"}
        assert {line["value"] for line in read_csv(to_csv(document)) if line["origin"] == "measured"} == {""}
        assert "This leaderboard has no run" in notes(document)
    document = paper_table(2, load(tmp_path, "ms-cxr", {}))
    assert "0.5242" in terminal(document)
    assert "ms-cxr.csv has no rows" in notes(document)


def test_table_2_compares_like_with_like(board: Make) -> None:
    rows = [row("cxrbert-ldm", 0.3, **LDM | {"tokens": "disease"}), row("cxrbert-ldm", 0.5, **LDM)]
    _, disease, lexical = paper_table(2, board(rows)).blocks
    assert cell(disease, "CXR-BERT", "", "mIoU", "GT + CFG").shown == "0.300"
    assert cell(lexical, "CXR-BERT", "", "mIoU", "GT + CFG").shown == "0.500"
    assert "disease tokens: like the published" in disease.title
    assert "lexical tokens: NOT like the published" in lexical.title


def test_all_of_ms_cxr_is_shown_beside_the_published_values(board: Make) -> None:
    own = {"split": "all", **LDM, "miou_freq2": "0.58000"}
    here = board([row("cxrbert-ldm", 0.5, **own), row("biovil", 0.3, split="all")], dataset="ms-cxr")
    facts = {"protocol": "biovil", "frame": "original", "mask": "none", "miou_thresholds": "0.25", "cnr_abs": "1.00"}
    twin = board([row("biovil", 0.3, split="all", **facts)], {"protocol": "biovil"}, "ms-cxr")
    part = board([row("biovil", 0.3, split="test", **facts)], {"protocol": "biovil"}, "ms-cxr")
    assert "mIoU .1-.5" not in {column.name for column in paper_table(1, here, biovil=part).blocks[0].columns}
    document = paper_table(1, here, biovil=twin)
    (block,) = document.blocks
    assert block.title == "PUBLISHED (paper) and MEASURED (here) on ms-cxr v1, all split"
    assert cell(block, "Edema", "CXR-BERT-LDM", "mIoU", origin="published").figure == "0.55±.01"
    assert cell(block, "Edema", "CXR-BERT-LDM", "mIoU", origin="measured").shown == "0.500"
    assert cell(block, AVERAGE, "CXR-BERT-LDM", "mIoU", origin="measured").shown == "0.580"
    assert cell(block, "Edema", "BioVil", "mIoU .1-.5").shown == "0.250"
    assert cell(block, "Edema", "BioVil", "CNR abs.").shown == "1.000"
    assert "cannot be compared" not in notes(document)


@pytest.mark.parametrize(
    "field", ["split=test", "limit=5", "control=phrase-swap", "frame=original", "uncovered=exclude", "protocol=strict"]
)
def test_a_part_other_rules_or_a_control_are_not_the_published_data(field: str, board: Make) -> None:
    name, _, text = field.partition("=")
    fields = LDM | {"split": "all", name: text}
    here = board([row("cxrbert-ldm", 0.5, **fields)], {name: text}, "ms-cxr")
    published, measured = paper_table(1, here).blocks
    assert [{column.origin for column in block.columns} for block in (published, measured)] == [
        {"published"},
        {"measured"},
    ]
    assert text in measured.title
    assert cell(measured, "Edema", "CXR-BERT-LDM", "mIoU").shown == "0.500"


def test_the_average_can_be_chosen(board: Make) -> None:
    here = board([row("cxrbert-ldm", 0.5, **LDM, cnr_macro="1.25000")])
    found = paper_table(4, here, "macro").blocks[1]
    assert cell(found, "Frozen CXR-BERT", "", "CNR").shown == "1.250"
    assert found.title.endswith("macro means over categories")
    with pytest.raises(UsageError, match="--average"):
        paper_table(1, here, "macro")


# which run fills a cell


def test_the_most_frequent_setup_is_shown_and_the_others_are_named(board: Make) -> None:
    rows = [
        row("cxrbert-ldm", 0.9, **LDM | {"layers": "all"}),
        row("cxrbert-ldm", 0.5, **LDM),
        row("cxrbert-ldm", 0.4, **LDM | {"sampling": "cfg"}),
        row("cxrbert-ldm", 0.1, **LDM, control="phrase-swap"),
    ]
    document = paper_table(2, board(rows))
    assert cell(document.blocks[2], "CXR-BERT", "", "mIoU", "GT + CFG").shown == "0.500"
    assert "cxrbert-ldm was also run with other layers:" in notes(document)
    chosen = paper_table(2, board(rows, {"layers": "all"}))
    assert cell(chosen.blocks[2], "CXR-BERT", "", "mIoU", "GT + CFG").shown == "0.900"
    assert cell(chosen.blocks[2], "CXR-BERT", "", "mIoU", "CFG").shown == "-"


def test_a_table_prefers_the_weights_that_fill_most_of_it(board: Make) -> None:
    """A method that was also trained for longer is not compared with others that were not."""
    rows = [
        row("cxrbert-ldm", 0.9, **LDM),
        row("cxrbert-ldm", 0.8, **LDM | {"bbm": "mixture"}),
        row("clip-ldm", 0.7, **LDM),
        *(row(name, 0.3, **LDM | {"weights": "phantom-quick"}) for name in ("cxrbert-ldm", "radbert-ldm")),
        row("cxrbert-ldm", 0.2, **LDM | {"weights": "phantom-quick@7"}),
        row("cxrclip-ldm", 0.1, **LDM | {"weights": "phantom-quick"}),
    ]
    second, first = paper_table(2, board(rows)), paper_table(1, board(rows))
    shown = {line.label: line.cells[0].shown for line in second.blocks[2].rows if line.section == "GT + CFG"}
    assert {label: shown[label] for label in shown if shown[label] != "-"} == {
        "CLIP, weights phantom": "0.700",
        "RadBERT, weights phantom-quick": "0.300",
        "CXR-CLIP, weights phantom-quick": "0.100",
        "CXR-BERT, weights phantom-quick": "0.300",
    }, "different training budgets in one column are named"
    assert "cxrbert-ldm was also run with other weights" in notes(second)
    assert cell(first.blocks[1], "Mean over samples", "CXR-BERT-LDM", "mIoU").shown == "0.900"
    asked = paper_table(2, board(rows, {"weights": "phantom"}))
    assert cell(asked.blocks[2], "CXR-BERT", "", "mIoU", "GT + CFG").shown == "0.900"


def test_seeds_give_a_mean_and_a_standard_deviation(board: Make) -> None:
    rows = [row("clip-ldm", 0.2 + i / 10, **LDM, seed=str(i), miou_low="0.1", miou_high="0.9") for i in range(3)]
    document = paper_table(1, board(rows))
    assert any("clip-ldm over 3 seeds (0, 1, 2)" in note for _, note in document.notes)
    found = cell(document.blocks[1], "Mean over samples", "CLIP-LDM", "mIoU")
    assert (found.exact, found.spread, found.n, found.interval) == ("0.30000", "0.100", "3 runs", "")
    assert len(found.run_key.split()) == 3
    assert found.figure == "0.300±.100"


def test_rows_of_other_samples_or_rules_are_left_out(board: Make) -> None:
    rows = [
        row("cxrbert-ldm", 0.9, **LDM, limit="5"),
        row("cxrbert-ldm", 0.8, **LDM, dataset_options="seed=1"),
        row("cxrbert-ldm", 0.7, **LDM, frame="original"),
        row("cxrbert-ldm", 0.6, **LDM, dataset_version="1"),
        row("cxrbert-ldm", 0.5, **LDM, dataset_version="10"),
        row("cxrbert-ldm", 0.4, **LDM, dataset_version="9"),
    ]
    here = board(rows)
    assert [found["miou"] for found in here.rows] == ["0.50000"]
    assert here.title == "phantom v10, test split"
    assert board(rows, {"dataset_options": "seed=1"}).title == "phantom v1 seed=1, test split"
    assert board(rows, {"frame": "original"}).title == "phantom v1, test split, frame original"


# marks, intervals and formats


def test_intervals_are_in_every_format(board: Make) -> None:
    low = {"cnr_low": "-0.12345", "cnr_high": "0.98765"}
    bounded = paper_table(2, board([row("cxrbert-ldm", -0.2, **LDM, **low), row("clip-ldm", 0.2, **LDM)]))
    assert "& $-$0.100 \\\\\n" in to_latex(bounded)
    assert r"& {\scriptsize $[-0.123, 0.988]$} \\[2pt]" in to_latex(bounded)
    assert "-0.100<sub>\\[-0.123, 0.988\\]</sub>" in to_markdown(bounded)
    assert "[-0.123,0.988]" in terminal(bounded)
    read = next(line for line in read_csv(to_csv(bounded)) if line["low"])
    assert [read[name] for name in ("row", "metric", "value", "low", "high")] == [
        *("CXR-BERT", "CNR", "-0.10000", "-0.12345", "0.98765"),
    ]


def test_the_terminal_keeps_80_columns_and_cuts_nothing(board: Make) -> None:
    wide = {f"{name}_{side}": "0.55555" for name in METRICS for side in ("low", "high")}
    rows = [row(name, 0.5, **LDM, **wide) for name in ("cxrbert-ldm", "clip-ldm", "medkebert-ldm")]
    documents = [paper_table(number, board(rows)) for number in LAYOUTS] + [averages()]
    documents.append(pivot(board(rows), "method", "sampling", METRICS))
    for document in documents:
        text = terminal(document)
        assert max(map(len, text.splitlines())) <= 80
        assert "…" not in text
        shown = [found.shown for block in document.blocks for line in block.rows for found in line.cells]
        assert all(text.count(figure) >= shown.count(figure) for figure in set(shown))


@pytest.mark.parametrize("number", [*LAYOUTS, 0])
@pytest.mark.parametrize("dataset", ["phantom", "ms-cxr"])
def test_markdown_is_whole_and_latex_balanced_and_escaped(number: int, dataset: str, board: Make) -> None:
    bounds = {"cnr_low": "-1", "cnr_high": "1", "split": "all" if dataset == "ms-cxr" else "test"}
    rows = [row("cxrbert-ldm", 0.5, **LDM, **bounds), row("my_50%&$x^2#~\\{", 0.5, **bounds)]
    here = board(rows, dataset=dataset)
    added = [rows[1]["method"]] if dataset == "ms-cxr" else []
    document = paper_table(number, here, add=added) if number else averages()
    tables = re.findall(r"(?:^\|.*\|\n)+", to_markdown(document), flags=re.M)
    assert len(tables) == len(document.blocks)
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1
        assert re.fullmatch(r"\| :--( \| --:)+ \|", table.splitlines()[1])
    text = to_latex(document)
    bare = re.sub(r"\\[\\%&$#_{}]", "", re.sub(r"(?m)^%.*$|(?<=\{)%$", "", text))
    assert bare.count("{") == bare.count("}")
    assert bare.count("$") % 2 == 0
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") > 0
    assert not set("%#~^") & set(bare.replace("[htbp]", ""))
    assert "_" not in re.sub(r"\$[^$]*\$", "", bare)
    for tabular in re.findall(r"\\begin\{tabular\}\{(l)(r*)\}(.*?)\\end\{tabular\}", text, flags=re.S):
        for line in tabular[2].splitlines():
            if line.endswith((r"\\", r"\\[2pt]")):
                spans = [int(width) - 1 for width in re.findall(r"\\multicolumn\{(\d+)\}", line)]
                assert len(re.findall(r"(?<!\\)&", line)) + sum(spans) == len(tabular[1])


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="LaTeX is not installed")
def test_every_table_compiles(tmp_path: Path, board: Make) -> None:
    own = {**LDM, "split": "all", "cnr_low": "-1", "cnr_high": "1"}
    documents = [paper_table(number, board([row("cxrbert-ldm", 0.5, **LDM)])) for number in LAYOUTS] + [averages()]
    rows = [row("cxrbert-ldm", 0.5, **own), row("my_50%&$x^2#~\\{", 0.5, **OWN)]
    documents += [paper_table(n, board(rows, dataset="ms-cxr"), add=[rows[1]["method"]]) for n in LAYOUTS]
    for i, document in enumerate(documents):
        (tmp_path / f"{i}.tex").write_text(to_latex(document), encoding="utf-8")
    inputs = "\n".join(f"\\input{{{i}.tex}}\\clearpage" for i in range(len(documents)))
    head = r"\documentclass{article}\usepackage[T1]{fontenc}\usepackage{booktabs}\usepackage{graphicx}"
    (tmp_path / "all.tex").write_text(f"{head}\\begin{{document}}\n{inputs}\n\\end{{document}}\n")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-draftmode", "all.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    assert "Missing character" not in (tmp_path / "all.log").read_text(errors="ignore")


# any two columns


def test_rows_by_columns(board: Make) -> None:
    rows = [row("cxrbert-ldm", 0.5, **LDM), row("cxrbert-ldm", 0.4, **LDM | {"sampling": "text"}), row("prior", 0.6)]
    (block,) = pivot(board(rows), "method", "sampling", ["miou"]).blocks
    assert [column.group for column in block.columns] == ["no sampling", "text", "gt-cfg"]
    assert [found.shown for found in block.rows[0].cells] == ["-", "0.400", "0.500"]
    assert [found.shown for found in block.rows[1].cells] == ["0.600", "-", "-"]
    assert block.title == "MEASURED on phantom v1, test split; means over samples"
    (block,) = pivot(board([rows[0], rows[2]]), "category", "method", ["miou"]).blocks
    assert [line.label for line in block.rows] == ["Edema", "Nodule", "Pleural Effusion", "all samples"]
    assert cell(block, "Nodule", "prior", "miou").shown == "0.600"
    (block,) = pivot(board(rows[::2]), "method", "metric", ["cnr", "auroc"]).blocks
    assert [column.name for column in block.columns] == ["cnr", "auroc"]
    assert cell(block, "prior", "", "auroc").shown == "0.900"


@pytest.mark.parametrize(
    ("rows", "columns", "metric", "message"),
    [
        ("method", "sampler", "miou", "'sampler'"),
        ("method", "split", "miou", "'split'"),
        ("method", "method", "miou", "--rows method"),
        ("metric", "method", "miou", "--rows metric"),
        ("method", "sampling", "mious", "did you mean miou"),
        ("sampling", "layers", "miou", "--where method=NAME"),
    ],
)
def test_tables_that_are_refused(rows: str, columns: str, metric: str, message: str, board: Callable) -> None:
    here = board([row("cxrbert-ldm", 0.5, **LDM), row("prior", 0.6)])
    with pytest.raises(UsageError, match=message):
        pivot(here, rows, columns, [metric])


# the command


def call(*arguments: object, code: int = 0) -> str:
    done = CliRunner().invoke(app, ["table", *map(str, arguments)], env={"COLUMNS": "80"})
    assert done.exit_code == code, done.output
    return done.output


def test_the_command_prints_and_writes(tmp_path: Path) -> None:
    assert "frequency2 for CLIP-LDM" in " ".join(call("averages").split())
    printed = call("1", "--format", "csv", "--leaderboards-dir", tmp_path)
    assert sum(line["origin"] == "published" for line in read_csv(printed)) == 90
    written = call("4", "--out", tmp_path / "out", "--leaderboards-dir", tmp_path)
    assert written.count("Written: ") == 3
    assert (tmp_path / "out" / "table4.tex").is_file()


def test_a_protocol_has_its_own_rows_metric_and_average(board: Make, tmp_path: Path) -> None:
    strict = {"protocol": "strict", "frame": "original", "gcnr": "0.1", "gcnr_macro": "0.7"}
    board([row("uniform", 0.5), row("uniform", 0.25, **strict), row("uniform", 0.125, **strict, mask="best:0.3")])
    words = ("--rows", "method", "--columns", "metric", "--leaderboards-dir", tmp_path, "--format", "csv")

    def shown(*more: str) -> dict[str, str]:
        return {line["metric"]: line["value"] for line in read_csv(call(*words, *more))}

    assert shown() == {"miou": "0.50000", "cnr": "0.60000"}
    assert shown("--protocol", "strict", "--average", "overall") == {"gcnr": "0.1", "cnr": "0.35000"}
    assert shown("--protocol", "strict")["gcnr"] == "0.7"
    best = shown("--protocol", "strict", "--where", "mask=best", "--average", "overall")
    assert best == {"gcnr": "0.1", "cnr": "0.22500"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("5", "'5'"),
        ("1 --rows method --columns metric", "both --rows and"),
        ("--rows method", "both --rows"),
        ("1 --metric cnr", "--metric needs --rows"),
        ("1 --format pdf", "--format pdf"),
        ("1 --dataset fantom", "did you mean phantom"),
        ("1 --where method", "NAME=VALUE"),
        ("1 --where methd=x", "did you mean method"),
        ("--rows method --columns sampling --dataset ms-cxr", "has no rows"),
    ],
)
def test_wrong_arguments_are_named(arguments: str, message: str, tmp_path: Path) -> None:
    assert message in call(*arguments.split(), "--leaderboards-dir", tmp_path, code=2)


def test_the_command_loads_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom typer.testing import CliRunner\nfrom gtg_bench.benchmark.cli import app\n"
        "assert CliRunner().invoke(app, ['table', '2']).exit_code == 0\n"
        "heavy = {'torch', 'pandas', 'sklearn', 'matplotlib', 'skimage', 'scipy', 'transformers', 'diffusers'}\n"
        "sys.exit(' '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
