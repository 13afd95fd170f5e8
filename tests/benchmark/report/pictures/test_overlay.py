"""Pictures of maps: opacity, colours, regions, text that fits, and files."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.api.geometry import Frame, Mask
from gtg_bench.benchmark.api.types import GroundingMap
from gtg_bench.benchmark.report.pictures.drawing import blank, text_width, wrapped
from gtg_bench.benchmark.report.pictures.overlay import (
    Look,
    Strip,
    Tile,
    overlay_figure,
    save,
    sheet_figure,
    strips_figure,
)

GREY = np.full((60, 80), 0.5, dtype=np.float32)
LONG = "x" * 300 + " W" * 90 + " $x^2_{3$ 左肺尖に小さな気胸を認める " + "a word " * 40


def ramp(frame: Frame | None = None, cells: int = 20) -> GroundingMap:
    """A map that rises from 0 on the left to 1 on the right."""
    values = np.tile(np.linspace(0, 1, cells, dtype=np.float32), (cells, 1))
    return GroundingMap(values, frame or Frame.original((80, 60)))


def painted(look: Look, grounding: GroundingMap | None = None) -> np.ndarray:
    """The map's layer of a picture, uint8 [h, w, 4]."""
    figure = overlay_figure(GREY, grounding or ramp(), "title", look=look)
    return np.asarray(figure.axes[0].images[1].get_array())


def outside(figure: Figure) -> list[str]:
    """Texts that leave the canvas."""
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    canvas, texts = figure.bbox, [*figure.texts]
    for axes in figure.axes:
        texts += [*axes.texts, axes.title, axes.xaxis.label, axes.yaxis.label]
        texts += axes.get_xticklabels() + axes.get_yticklabels() if axes.axison else []
    with warnings.catch_warnings(action="ignore"):  # no font with Chinese signs
        boxes = [(text.get_text(), text.get_window_extent(renderer)) for text in texts if text.get_text()]
    inside = [canvas.x0 <= b.x0 and b.x1 <= canvas.x1 and canvas.y0 <= b.y0 and b.y1 <= canvas.y1 for _, b in boxes]
    return [text for (text, _), fits in zip(boxes, inside, strict=True) if not fits]


def test_low_values_are_transparent_and_opacity_rises() -> None:
    alpha = painted(Look(interpolation="bilinear"))[0, :, 3].astype(int)
    values = np.linspace(0, 1, len(alpha))
    assert not alpha[values < 0.24].any()
    assert (np.diff(alpha) >= 0).all()
    assert alpha[-1] == round(0.75 * 255)


def test_the_bar_shows_the_colours_of_the_picture_over_mid_grey() -> None:
    layer = painted(Look(interpolation="nearest"))[0].astype(float) / 255
    seen = layer[:, 3:] * layer[:, :3] + (1 - layer[:, 3:]) * 0.5
    assert np.allclose(seen, Look().bar()(np.linspace(0, 1, 20))[:, :3], atol=0.02)
    lightness = Look().bar()(np.linspace(0.3, 1, 50))[:, :3] @ (0.2126, 0.7152, 0.0722)
    assert (np.diff(lightness) > -0.004).all()


@pytest.mark.parametrize("interpolation", ["smooth", "bilinear", "nearest"])
def test_interpolation(interpolation: str) -> None:
    """Nearest keeps the map's cells; smooth changes more than bilinear and keeps the range."""
    spots = GroundingMap((np.indices((8, 8)).sum(0) % 2).astype(np.float32), Frame.original((80, 60)))
    layer = painted(Look(interpolation=interpolation), spots)
    assert (layer.shape[:2] == (8, 8)) == (interpolation == "nearest")
    assert layer[..., 3].max() == 191
    assert set(np.unique(painted(Look(interpolation="nearest"), spots)[..., 3])) == {0, 191}


def test_a_map_of_a_part_of_the_image_is_transparent_outside() -> None:
    crop = Frame.center_crop((80, 60), 60)
    figure = overlay_figure(GREY, ramp(crop), "title", look=Look(interpolation="bilinear"))
    layer = np.asarray(figure.axes[0].images[1].get_array())
    assert not layer[:, : layer.shape[1] // 8, 3].any()
    assert not layer[:, -layer.shape[1] // 8 + 2 :, 3].any()
    assert layer[..., 3].any()
    (edge,) = figure.axes[0].patches
    assert (edge.get_x(), edge.get_width()) == (10, 60)  # type: ignore[attr-defined]
    blocky = overlay_figure(GREY, ramp(crop), "title", look=Look(interpolation="nearest"))
    assert blocky.axes[0].images[1].get_extent() == [10, 70, 60, 0]


def test_a_constant_map_is_transparent() -> None:
    assert not painted(Look(), GroundingMap(np.ones((4, 4), np.float32), Frame.original((80, 60))))[..., 3].any()


def test_regions_have_a_dark_rim_and_a_light_core(tmp_path: Path) -> None:
    mask = Mask.of((80, 60), "counts", f"0 {80 * 60}")
    for tile in (Tile(GREY, "", [(20, 20, 60, 40), (70, 50, 90, 70)]), Tile(GREY, "", (), None, mask)):
        figure = sheet_figure([tile])
        save(figure, tmp_path / "a.png", dpi=200)
        found = np.asarray(Image.open(tmp_path / "a.png").convert("L"))
        assert (found < 60).sum() > 300
        assert (found[40:-40, 40:-40] > 200).any() or tile.mask
        assert not outside(figure)


def test_contours_are_lines_in_picture_and_bar() -> None:
    figure = overlay_figure(GREY, ramp(), "title", look=Look(contour=(0.5, 0.75)))
    assert len(figure.axes[0].collections) == 2
    assert len(figure.axes[1].lines) == 2
    line = figure.axes[0].collections[0].get_paths()[0].vertices
    assert np.allclose(np.asarray(line)[5:-5, 0].min(), 40, atol=1)


@pytest.mark.parametrize("text", [LONG, "i" * 2000, "W" * 400, "\x00\x1b[31m\n\ud800 a\tb", "", "$"])
def test_no_text_leaves_the_canvas(text: str, tmp_path: Path) -> None:
    wide, narrow = np.zeros((10, 300), np.float32), np.zeros((300, 10), np.float32)
    tiles = [Tile(image, text, [(1, 1, 5, 5)]) for image in (wide, narrow, GREY)]
    tiles[2] = Tile(GREY, text, (), ramp())
    figures = [sheet_figure(tiles), strips_figure([Strip(tiles, text), Strip([None, *tiles[1:]])], [text] * 3)]
    maps = [ramp(Frame.original((image.shape[1], image.shape[0]))) for image in (wide, narrow)]
    figures += [overlay_figure(image, one, text, note=text) for image, one in zip((wide, narrow), maps, strict=True)]
    for figure in figures:
        assert outside(figure) == []
        save(figure, tmp_path / "a.svg", dpi=30)


def test_wrapped_lines_fit_and_lose_nothing() -> None:
    lines = wrapped(LONG, 2.4, 8)
    assert "".join(lines).replace(" ", "") == LONG.replace(" ", "")
    assert all(text_width(line, 8) <= 2.4 for line in lines)
    assert wrapped("two\nlines", 2.4, 8) == ["two", "lines"]


def test_files(tmp_path: Path) -> None:
    """Text stays text; 300 dpi; the same picture gives the same bytes; large sheets are bounded."""
    figure = overlay_figure(GREY, ramp(), "small $left$ <effusion>", [(10, 10, 30, 30)])
    paths = [tmp_path / f"a{suffix}" for suffix in (".png", ".PDF", ".svg", ".jpg")]
    save(figure, *paths)
    width = figure.get_size_inches()[0]
    assert Image.open(paths[0]).size[0] == pytest.approx(300 * width, abs=1)
    assert Image.open(paths[0]).info["dpi"][0] == pytest.approx(300, abs=0.1)
    assert b"/FontFile2" in paths[1].read_bytes()  # TrueType, not Type 3
    svg = paths[2].read_text(encoding="utf-8")
    assert "small $left$ &lt;effusion&gt;" in svg
    assert "<text" in svg
    assert all(path.stat().st_size < 2e6 for path in paths)
    save(figure, tmp_path / "b.svg", tmp_path / "b.pdf")
    assert (tmp_path / "b.svg").read_bytes() == paths[2].read_bytes()
    assert (tmp_path / "b.pdf").read_bytes() == paths[1].read_bytes()
    save(blank((10, 200)), tmp_path / "large.png")
    assert np.prod(Image.open(tmp_path / "large.png").size) < 31e6


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Look("infrno"), "inferno"),
        (lambda: Look(contour=(1.5,)), "1.5"),
        (lambda: Look(interpolation="cubic"), "cubic"),
        (lambda: save(sheet_figure([Tile(GREY, "x")]), "a.bmp"), "a.bmp"),
        (lambda: save(blank((10, 200)), "a.png", dpi=1200), "megapixels"),
    ],
)
def test_invalid_wishes(call: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        call()
