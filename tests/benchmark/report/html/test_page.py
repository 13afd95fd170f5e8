"""The report in a real browser, opened from a file: no error, no request, and what a reader does with it."""

from __future__ import annotations

import csv
import io
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gtg_bench.benchmark.analysis.comparison import make
from gtg_bench.benchmark.report.html import write_report
from gtg_bench.benchmark.runs.records import RunFolder, read_records
from gtg_bench.benchmark.runs.spec import RunSpec

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
WICKED = "</script><img src=x onerror=alert(1)> \"quotes' $& <!-- 🫁 \u202eright-to-left -->"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if BROWSER is None:
        pytest.skip("no Chromium on this machine")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Any]]:
    """Open a report from its file; any console message, page error or request fails the test at its end."""
    bad: list[str] = []
    contexts = []

    def open_page(path: Path, view: str = "", **options: Any) -> Any:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: bad.append(message.text))
        page.on("pageerror", lambda error: bad.append(str(error)))
        page.on("dialog", lambda dialog: (bad.append(dialog.message), dialog.dismiss()))
        page.on(
            "request",
            lambda request: (
                re.match("data:|blob:", request.url)
                or request.url.partition("#")[0] == path.as_uri()
                or bad.append(request.url)
            ),
        )
        page.goto(path.as_uri() + view)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert bad == []


@pytest.fixture
def pair(toy: Any) -> tuple[Path, list[RunSpec]]:
    """The folder of two toy runs with other noise on 36 samples, and A's phrase swap."""
    done = [toy.run(seed=1, limit=36), toy.run(seed=2, limit=36), toy.run(seed=1, limit=36, control="phrase-swap")]
    return toy.folder / "runs", [one.spec for one in done]


def rewritten(runs: Path, spec: RunSpec, change: Callable[[Any], Any]) -> None:
    """Change the records of a run."""
    folder = RunFolder(runs, spec)
    records = [change(record) for record in read_records(folder.path).values()]
    (folder.path / "samples.jsonl").unlink()
    folder.append(records)


def cards(page: Any) -> list[str]:
    return list(page.locator(".card h3").all_inner_texts())


def test_a_reader_finds_where_a_fails_and_b_does_not(
    pair: tuple[Path, list[RunSpec]], visit: Callable[..., Any], tmp_path: Path
) -> None:
    runs, (a, b, control) = pair
    path = write_report([a.key, b.key], tmp_path / "report.html", runs)
    ours, theirs = (read_records(RunFolder(runs, spec).path) for spec in (a, b))
    page = visit(path)
    assert page.locator(".pager .count").first.inner_text() == "36 of 36 samples"
    assert len(cards(page)) == 24

    page.get_by_role("button", name="A misses, B hits").click()
    page.get_by_label("side named").select_option("left")
    wanted = {
        name
        for name, record in ours.items()
        if record.facts["side"] == "left" and record.metrics.get("top1", 1) < 0.5 <= theirs[name].metrics.get("top1", 0)
    }
    with page.expect_download() as download:
        page.get_by_role("button", name="CSV").click()
    rows = list(csv.DictReader(io.StringIO(Path(download.value.path()).read_text(encoding="utf-8-sig"))))
    assert {row["sample_id"] for row in rows} == wanted
    lost = [float(row["A_cnr"]) - float(row["B_cnr"]) for row in rows]
    assert lost == sorted(lost), "losses come first"

    page.get_by_role("button", name="All", exact=True).click()
    page.get_by_role("button", name="Next page").first.click()
    page.get_by_label("phrase, id or message").fill("effusion")
    assert all("effusion" in text.lower() for text in cards(page))
    assert page.locator(".pager input").first.input_value() == "1", "a filter starts at the first page"
    page.get_by_role("button", name="Ignores the phrase").click()
    assert f"b={control.key}" in page.url
    shown = page.locator(".card", has_text="Correlation").first
    assert "was given" in shown.inner_text()
    assert shown.locator("canvas").count() == 2


def test_keys_permalinks_and_sorting(
    pair: tuple[Path, list[RunSpec]], visit: Callable[..., Any], tmp_path: Path
) -> None:
    runs, (a, b, _) = pair
    path = write_report([a.key, b.key], tmp_path / "report.html", runs)
    sample = next(iter(read_records(RunFolder(runs, a).path)))
    page = visit(path, f"#a={b.key}&b={a.key}&m=iou&sort=gain&page=2&sample={sample}")
    dialog = page.locator("#sample")
    assert dialog.is_visible()
    assert sample in dialog.inner_text()
    assert "phrases of this image" in dialog.inner_text() or "image " in dialog.inner_text()
    page.keyboard.press("ArrowRight")
    page.wait_for_function(f"!location.hash.includes('{sample}')")
    page.keyboard.press("Escape")
    page.wait_for_function("!location.hash.includes('sample')")
    assert page.evaluate("D.runs[state.a].key") == b.key, "a permalink may exchange A and B"
    page.keyboard.press("ArrowLeft")
    assert "page=" not in page.url
    page.keyboard.press("?")
    assert page.locator("#help").is_visible()
    page.keyboard.press("Escape")

    rows = page.locator(".board tbody tr")
    page.get_by_role("button", name="cnr", exact=True).click()
    values = [float(text) for text in rows.locator("td:nth-child(4) b").all_inner_texts()]
    assert values == sorted(values, reverse=True)
    (all_samples,) = [
        row.found for row in make(runs, [a.key, b.key], ["iou"]).subjects[1].rows if row.category == "all"
    ]
    assert all_samples.difference is not None
    shown = page.locator(".forest tr.all b").inner_text()
    assert float(shown) == pytest.approx(-all_samples.difference, abs=6e-4), "B - A has the other sign"
    page.locator("#scatter").scroll_into_view_if_needed()
    x, y, name = page.evaluate("[dots[7][0], dots[7][1], D.samples.id[dots[7][2]]]")
    page.locator("#scatter").click(position={"x": x, "y": y})
    assert name in dialog.inner_text()


@pytest.mark.parametrize("options", [{}, {"viewport": {"width": 390, "height": 800}, "color_scheme": "dark"}])
def test_text_of_users_stays_text(
    pair: tuple[Path, list[RunSpec]], visit: Callable[..., Any], tmp_path: Path, options: dict[str, Any]
) -> None:
    runs, (a, b, _) = pair
    for spec in (a, b):
        rewritten(runs, spec, lambda r: replace(r, category=WICKED, phrase=WICKED, image_id="=1+1", note=WICKED))
    rewritten(runs, b, lambda r: replace(r, status="failed", error=WICKED, metrics={}) if "-0-" in r.sample_id else r)
    page = visit(write_report([a.key, b.key], tmp_path / "réport <1>.html", runs), **options)
    assert WICKED in page.locator(".card h3 bdi").first.evaluate("node => node.textContent")
    assert page.locator(".card img, .card script").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "nothing sticks out"
    assert "failed" in page.locator("#warnings").inner_text()
    page.get_by_label("status").select_option("failed")
    assert page.locator(".card .bad").count() > 0
    page.locator(".card h3 button").first.click()
    page.wait_for_function("document.querySelector('#sample').open")
    assert "'=1+1" in page.evaluate("csv()"), "no spreadsheet runs it"
    low, high = page.evaluate("[Math.min, Math.max].map((f) => f(...bytes(D.maps[0].data)))")
    assert (low, high) == (0, 255), "maps keep their range"


def test_a_private_report_has_neither_phrases_nor_ids_nor_pictures(
    toy: Any, pair: tuple[Path, list[RunSpec]], visit: Callable[..., Any], tmp_path: Path
) -> None:
    runs, (a, _, _) = pair
    b = toy.run(seed=3, limit=36, weights="/secret/mine").spec
    rewritten(runs, a, lambda r: replace(r, note="secret"))
    failed = {"status": "failed", "metrics": {}}
    rewritten(runs, a, lambda r: replace(r, error=f"secret {r.image_id}", **failed) if "-0-" in r.sample_id else r)
    path = write_report([b.key, a.key], tmp_path / "private.html", runs, private=True)
    text = path.read_text(encoding="utf-8")
    records = read_records(RunFolder(runs, b).path).values()
    hidden = {text for r in records for text in (r.sample_id, r.image_id, r.patient_id, r.phrase)} | {
        "secret",
        "base64,",
    }
    assert [word for word in hidden if word in text] == []
    assert "<bdi>mine</bdi>" in text
    page = visit(path)
    assert page.locator("canvas").count() == 1, "the scatter plot alone"
    page.locator(".card h3 button").first.click()
    assert page.locator("#sample").is_visible()


def test_many_samples_have_pictures_by_a_stated_rule(
    pair: tuple[Path, list[RunSpec]], monkeypatch: pytest.MonkeyPatch, visit: Callable[..., Any], tmp_path: Path
) -> None:
    from gtg_bench.benchmark.report.html import page as module

    monkeypatch.setattr(module, "MANY", 30)
    monkeypatch.setattr(module, "PICTURED", 20)
    monkeypatch.setattr(module, "EXTREMES", 2)
    runs, (a, b, _) = pair
    page = visit(write_report([a.key, b.key], tmp_path / "report.html", runs))
    pictured = page.evaluate("D.samples.picture.filter((one) => one !== null).length")
    assert pictured == 20
    assert "20 of 36 samples" in page.locator("#warnings").inner_text()
    for preset in ("A worst", "Biggest gain", "Biggest loss"):
        page.get_by_role("button", name=preset, exact=True).click()
        assert page.locator(".card").first.locator("canvas").count() == 2, "extremes have pictures"
    assert page.locator("#gallery .count").first.inner_text() == "36 of 36 samples", "every sample counts"
