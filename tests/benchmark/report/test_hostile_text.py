"""Control characters, bidirectional marks and formulas in ids, phrases, categories and names reach no output."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.progress import Progress
from rich.table import Table
from typer.testing import CliRunner

from gtg_bench.benchmark.cli import app
from gtg_bench.benchmark.report import leaderboard
from gtg_bench.benchmark.report.tables.document import Block, Document, Row
from gtg_bench.benchmark.report.tables.render import WRITERS
from gtg_bench.benchmark.report.terminal import Terminal

EVIL = "\x1b[2J\x9b31m\u202e"
FORMULA = "=HYPERLINK(0)"
RAW = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def test_a_terminal_escapes_whatever_is_rendered() -> None:
    console = Terminal(file=io.StringIO(), width=100, force_terminal=True, color_system=None)
    table = Table(title=EVIL)
    table.add_column(EVIL)
    table.add_row(EVIL)
    console.print(table)
    console.print(EVIL, markup=False)
    with Progress(console=console) as bar:
        bar.add_task(EVIL, total=1)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert text.count(r"\x1b[2J\x9b31m\u202e") == 2, "in narrow cells it is cut"
    assert "\x1b[2J" not in text
    assert not set("\x9b\u202e") & set(text)


@pytest.mark.parametrize("name", WRITERS)
def test_documents_escape_it(name: str) -> None:
    block = Block(EVIL, (), (Row(f"{EVIL}`<b>\n|", ()),))
    text = WRITERS[name](Document("d", f"{EVIL}\n\\input x", (block,), (("", EVIL),)))
    assert not RAW.search(text)
    assert "\n\\input" not in text
    assert name != "markdown" or "\\`\\<b\\> \\|" in text


def test_commands_print_and_write_none_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A COCO set whose phrases and categories are hostile: check, samples, run, table, subgroups."""
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)
    images, notes = [], []
    for k, phrase in enumerate([EVIL + "left", FORMULA, "left effusion"]):
        Image.fromarray(pixels).save(f"{k}.png")
        images.append({"id": k, "file_name": f"{k}.png", "width": 64, "height": 64})
        notes.append({"id": k, "image_id": k, "category_id": k % 2, "bbox": [4, 4, 30, 30], "phrase": phrase})
    categories = [{"id": 0, "name": f"A{EVIL}"}, {"id": 1, "name": FORMULA}]
    Path("a.json").write_text(json.dumps({"images": images, "annotations": notes, "categories": categories}))
    data = ["--data-root", "."]
    for words in (
        ["data", "check", "coco", *data],
        ["data", "samples", "coco", *data],
        ["run", "-m", "center-prior", "--dataset", "coco", *data],
        ["subgroups", "center-prior", "--by", "category"],
        ["table", "--dataset", "coco"],
        ["data", "samples", f"co{EVIL}co"],
    ):
        done = CliRunner().invoke(app, words)
        assert done.exit_code == (2 if EVIL in words[-1] else 0), done.output
        assert not RAW.search(done.output), words
    done = CliRunner().invoke(app, ["data", "samples", "coco", "--csv", *data])
    assert f"'{FORMULA}" in done.output
    rows = list(csv.reader(Path("leaderboards/coco.by_category.csv").read_text().splitlines()))
    assert [row[rows[0].index("category")] for row in rows[1:]] == [f"'{FORMULA}", f"A{EVIL}"]
    assert leaderboard.read(Path("leaderboards/coco.by_category.csv"))[0]["category"] == FORMULA
