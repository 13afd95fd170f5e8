"""`gtg-bench quality` as users type it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from typer.testing import CliRunner

from gtg_bench.benchmark.cli import app


class Means(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        values = images.float()[:, 0]
        return torch.stack([values.mean((1, 2)), values.std((1, 2))], 1)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with folders of images and a network."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("gtg_bench.benchmark.quality.compare.HALVES", 8)
    torch.jit.script(Means()).save(tmp_path / "means.pt")
    for name, n, level in (("real", 30, 100), ("made", 15, 100), ("dark", 15, 60)):
        (tmp_path / name).mkdir()
        for i in range(n):
            pixels = np.random.default_rng(i).normal(level, 20 + i, (32, 32)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{i}.png")
    return tmp_path


def call(*words: str, code: int = 0) -> str:
    done = CliRunner(env={"COLUMNS": "80"}).invoke(app, ["quality", *words])
    assert done.exit_code == code, done.output
    return done.output


WORDS = ("made", "dark", "--real", "real", "--features", "means.pt")


@pytest.mark.filterwarnings("ignore")
def test_the_table_fits_80_columns_and_the_rows_are_kept(place: Path) -> None:
    said = call(*WORDS, "--training", "real")
    assert max(map(len, said.splitlines())) <= 80
    assert said.index("real images (floor)") < said.index("made ") < said.index("dark ")
    assert "n = 15 images on each side" in said
    rows = json.loads(call(*WORDS, "--json"))["rows"]
    assert [row["images"] for row in rows] == ["real images", "made", "dark"]
    assert float(rows[2]["fid"]) > 100 > float(rows[1]["fid"])
    assert len((place / "leaderboards" / "quality.csv").read_text().splitlines()) == 7


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("none", "--real", "real"), "none is not a folder"),
        (("made", "--real", "reel"), "neither a folder nor a data set"),
        (("made", "--real", "real", "--features", "incption"), "did you mean inception"),
        (("made", "--real", "real", "--training", "train"), "not a folder; a split needs a data set"),
        (("made", "--real", "phantom", "--split", "tset"), "no split 'tset'"),
        (("made", "--real", "real", "--profile", "released", "--limit", "5"), "neither --by-category"),
    ],
)
def test_bad_input_is_one_line(words: tuple[str, ...], message: str, place: Path) -> None:
    said = call(*words, code=2)
    assert message in said
    assert len(said.strip().splitlines()) == 1
