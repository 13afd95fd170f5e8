"""leaderboards/README.md says what the shipped CSV files say."""

from __future__ import annotations

from pathlib import Path

import pytest

from gtg_bench.benchmark.report import leaderboard
from gtg_bench.benchmark.report.leaderboard import REFERENCE, Row

README = Path(__file__).parents[3] / "leaderboards" / "README.md"
ROWS = leaderboard.read(REFERENCE / "phantom.csv")
PLAIN = {"control": "none", "dataset_options": "", "tokens": "lexical", "bbm": "none", "sampling": "gt-cfg"}
MAIN = {"method": "cxrbert-ldm", "weights": "phantom-varied"}
MODES = ("text", "cfg", "gt1-cfg", "gt-cfg")
VARIANTS = ("cxrbert-ldm", "radbert-ldm", "cxrclip-ldm", "medkebert-ldm", "clip-ldm", "openclip-ldm")
"""By falling cnr."""
AGAIN = ("cxrbert-ldm", "radbert-ldm", "cxrclip-ldm", "clip-ldm")
RECIPES = {
    "phantom-quick": VARIANTS,
    "phantom-words": AGAIN,
    "phantom-apart": ("cxrbert-ldm", "clip-ldm"),
    "phantom": (*AGAIN, "medkebert-ldm", "openclip-ldm"),
    "phantom-sides": AGAIN,
    "phantom-varied": ("cxrbert-ldm",),
    "phantom@1759": ("cxrbert-ldm",),
    "phantom-varied@1759": ("cxrbert-ldm",),
}
"""Weights, by recipe and seed -> the diffusion models that were trained so."""


def found(layers: str = "", **wanted: str) -> Row:
    """The one row with these settings, the default layers of its weights unless `layers` is "all"."""
    wanted = PLAIN | wanted
    rows = [row for row in ROWS if row["dataset_options"] == wanted["dataset_options"]]
    rows = [row for row in rows if all(row[name] in (value, "") for name, value in wanted.items())]
    (row,) = [row for row in rows if (row["layers"] == "all") == (layers == "all")]
    return row


def number(metric: str, layers: str = "", **wanted: str) -> str:
    """Three decimals; "-" where the row was not measured again by this version of the protocol."""
    value = found(layers, **wanted)[metric]
    return f"{float(value):.3f}" if value else "-"


def interval(metric: str, layers: str = "", **wanted: str) -> str:
    value, low, high = (number(f"{metric}{end}", layers, **wanted) for end in ("", "_low", "_high"))
    return f"{value} [{low}, {high}]"


def main_rows() -> list[list[str]]:
    metrics = ("miou", "iou", "cnr", "top1", "auroc", "phrase_discrimination")
    controls = ("neutral-phrase", "phrase-swap", "image-swap", "side-swap")
    runs = {"oracle-lesion": {"method": "oracle-lesion"}, "cxrbert-ldm": MAIN}
    runs |= {name: {**MAIN, "control": name} for name in controls}
    runs |= {name: {"method": name} for name in ("center-prior", "class-prior", "phrase-prior")}
    return [["", *metrics], *([name, *(interval(metric, **run) for metric in metrics)] for name, run in runs.items())]


def ablation_rows() -> list[list[str]]:
    """By falling cnr."""
    plain, controls = ("auroc", "top1", "phrase_discrimination"), ("phrase-swap", "image-swap")
    runs = [(recipe, name) for recipe, names in RECIPES.items() for name in names]
    rows = []
    for weights, method in [*runs, ("phantom", "biovil"), ("phantom", "biovil-l")]:
        run = {"weights": weights, "method": method}
        cells = [number(metric, **run) for metric in plain]
        cells += [number("cnr", **run, control=name) for name in controls]
        whole = number("cnr", "all", **run) if (weights, method) in runs else "-"
        rows.append([f"`{weights}`", f"`{method}`", interval("cnr", **run), *cells, whole])
    rows.sort(key=lambda row: -float(row[2].split()[0]))
    return [["weights", "method", "cnr [95 % CI]", *plain, *controls, "all layers"], *rows]


def smoothed(
    method: str, board: list[Row], tokens: str = "lexical", control: str = "none", weights: str = MAIN["weights"]
) -> Row:
    """The one row with these settings; only weights of diffusion models tell rows apart."""
    (row,) = [
        row for row in board
        if (row["method"], row["tokens"] or tokens, row["control"]) == (method, tokens, control)
        and (row["weights"] == weights or not row["tokens"])
    ]  # fmt: skip
    return row


def smoothing_rows() -> list[list[str]]:
    """The means without smoothing, at 0.04, and at the method's own best."""
    metrics, boards = ("cnr", "auroc", "top1", "phrase_discrimination"), ("smooth0.04", "smooth-best")
    read = [leaderboard.read(REFERENCE / f"phantom.gtg@2+{name}.csv") for name in boards]
    rows = [["method", "cnr, not smoothed / 0.04 / own best", *metrics[1:], "own best"]]
    for name in ("oracle-lesion", "cxrbert-ldm", "phrase-prior", "class-prior", "center-prior"):
        plain = found(**MAIN) if name == MAIN["method"] else found(method=name)
        own = [plain, *(smoothed(name, board) for board in read)]
        cells = [" / ".join(f"{float(row[metric]):.3f}" for row in own) for metric in metrics]
        rows.append([name, *cells, own[-1]["smooth"].removeprefix("best:")])
    return rows


def test_the_readme_shows_the_shipped_numbers() -> None:
    text = README.read_text(encoding="utf-8")
    for rows in (main_rows(), smoothing_rows(), ablation_rows()):
        lines = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
        assert "\n".join(f"| {' | '.join(cells)} |" for cells in lines) in text
    words = " ".join(text.split())
    modes = [f"{mode} {number('auroc', **MAIN, sampling=mode)[1:]}" for mode in MODES]
    assert f"auroc {', '.join(modes)}," in words
    merged, whole = number("cnr", **MAIN, bbm="mixture"), number("cnr", "all", **MAIN)
    assert f"(cnr {merged} with the paper's mixture, {number('cnr', **MAIN)} without)" in words
    assert f"auroc {number('auroc', 'all', **MAIN)[1:]} and cnr {whole}" in words
    world = {**MAIN, "dataset_options": "seed=1"}
    names = ("auroc", "cnr", "top1", "phrase_discrimination")
    listen = [f"{n} {number(n, **MAIN, tokens='disease').removeprefix('0')}" for n in ("cnr", *names[2:])]
    assert f"paper's own: {', '.join(listen)};" in words
    strict = {r["method"]: float(r["gcnr_macro"]) for r in leaderboard.read(REFERENCE / "phantom.strict@4.csv")}
    assert f"(gcnr {strict['cxrbert-ldm']:.3f} against {strict['phrase-prior']:.3f})".replace(" 0.", " .") in words
    assert "second world: " + ", ".join(f"{n} {number(n, **world).removeprefix('0')}" for n in names) in words


def test_the_readme_compares_the_third_round() -> None:
    text, best = README.read_text(encoding="utf-8"), leaderboard.read(REFERENCE / "phantom.gtg@2+smooth-best.csv")
    rounds = ("phantom", "phantom-sides", "phantom-varied")
    plain = [found(method="cxrbert-ldm", weights=name) for name in rounds]
    smooth = [smoothed("cxrbert-ldm", best, weights=name) for name in rounds]
    world = [found(method="cxrbert-ldm", weights=name, dataset_options="seed=1") for name in rounds]
    swapped = [found(method="cxrbert-ldm", weights=name, control="phrase-swap") for name in rounds]

    def cells(*parts: tuple[list[Row], str]) -> str:
        shown = [[f"{float(rows[k][name]):.3f}".removeprefix("0") for rows, name in parts] for k in range(3)]
        return f" | {' | '.join(', '.join(each) for each in shown)} |"

    metrics = ("cnr", "auroc", "top1")
    assert f"| cnr, auroc, top1, not smoothed{cells(*((plain, name) for name in metrics))}" in text
    assert f"| the same at its own best smoothing{cells(*((smooth, name) for name in metrics))}" in text
    discrimination = cells(*((rows, "phrase_discrimination") for rows in (plain, smooth)))
    assert f"| phrase_discrimination, not smoothed and at its own best{discrimination}" in text
    second = cells((world, "auroc"), (world, "phrase_discrimination"))
    assert f"| second world: auroc, phrase_discrimination{second}" in text
    lost = [1 - float(other["cnr"]) / float(own["cnr"]) for own, other in zip(plain, swapped, strict=True)]
    assert [f"{share:.0%}" for share in lost] == ["72%", "66%", "71%"]


def test_what_the_readme_says_about_the_numbers_holds() -> None:
    main, prior = found(**MAIN), found(method="phrase-prior")
    for name in ("auroc", "iou", "miou", "top1"):
        assert float(main[f"{name}_low"]) > float(prior[f"{name}_high"])
    assert float(main["cnr_low"]) < float(prior["cnr"]) < float(main["cnr_high"])
    assert 0.88 <= float(main["phrase_discrimination"]) < float(prior["phrase_discrimination_low"])
    assert float(main["top1"]) >= 0.8 * float(found(method="oracle-lesion")["top1"])
    swapped = found(**MAIN, control="phrase-swap")
    assert float(swapped["phrase_discrimination_low"]) < 0.5 < float(swapped["phrase_discrimination_high"])
    for control, loss in (("phrase-swap", 0.71), ("image-swap", 0.63), ("neutral-phrase", 0.53)):
        assert 1 - float(found(**MAIN, control=control)["cnr"]) / float(main["cnr"]) == pytest.approx(loss, abs=0.005)
    words = found(**MAIN, tokens="disease"), found(**MAIN, tokens="disease", control="phrase-swap")
    assert 1 - float(words[1]["cnr"]) / float(words[0]["cnr"]) == pytest.approx(0.62, abs=0.005)
    best = leaderboard.read(REFERENCE / "phantom.gtg@2+smooth-best.csv")
    for tokens, loss in (("lexical", 0.75), ("disease", 0.65)):
        plain, other = (smoothed("cxrbert-ldm", best, tokens, control) for control in ("none", "phrase-swap"))
        assert 1 - float(other["cnr"]) / float(plain["cnr"]) == pytest.approx(loss, abs=0.005)
    smooth = smoothed("cxrbert-ldm", best), smoothed("phrase-prior", best)
    assert all(
        float(smooth[0][f"{name}_low"]) > float(smooth[1][f"{name}_high"]) for name in ("cnr", "top1", "iou", "miou")
    )
    assert float(smooth[0]["auroc_low"]) > float(smooth[1]["auroc_high"])
    strict = {row["method"]: row for row in leaderboard.read(REFERENCE / "phantom.strict@4.csv")}
    for name in ("gcnr", "cnr", "top1", "ap", "auroc", "iou"):
        assert float(strict["cxrbert-ldm"][name]) > float(strict["phrase-prior"][name])
    losses_of = {
        "phantom-apart": [0.76, 0.48],
        "phantom": [0.72, 0.70, 0.82, 0.56, 0.56, 0.09],
        "phantom-sides": [0.66, 0.50, 0.80, 0.58],
        "phantom-varied": [0.71],
        "phantom@1759": [0.73],
        "phantom-varied@1759": [0.80],
    }
    for weights, expected_losses in losses_of.items():
        runs = [{"method": name, "weights": weights} for name in RECIPES[weights]]
        lost = [1 - float(found(**run, control="phrase-swap")["cnr"]) / float(found(**run)["cnr"]) for run in runs]
        assert lost == pytest.approx(expected_losses, abs=0.005)
    listening = found(method="cxrclip-ldm", weights="phantom")
    assert float(listening["cnr_low"]) > float(prior["cnr_high"])
    assert float(listening["phrase_discrimination"]) == pytest.approx(0.903, abs=0.0005)
    seeds = [found(method="cxrbert-ldm", weights=f"phantom{end}") for end in ("@1759", "-varied@1759")]
    for metric, (before, after) in {"auroc": (0.942, 0.932), "top1": (0.718, 0.655), "cnr": (1.611, 1.479)}.items():
        assert [float(row[metric]) for row in seeds] == pytest.approx([before, after], abs=0.0005)
    two_rounds = {name: found(method=name, weights="phantom") for name in RECIPES["phantom"]}
    for metric in ("cnr", "auroc"):
        assert min(two_rounds, key=lambda name: float(two_rounds[name][metric])) == "openclip-ldm"
    assert max(two_rounds, key=lambda name: float(two_rounds[name]["auroc"])) == "cxrbert-ldm"
    quick = {name: float(found(method=name, weights="phantom-quick")["cnr"]) for name in VARIANTS}
    assert list(quick) == sorted(quick, key=lambda name: -quick[name])
    plain, swapped = (
        {n: found(method=n, weights="phantom-words", control=c) for n in AGAIN} for c in ("none", "phrase-swap")
    )
    losses = {name: 1 - float(swapped[name]["cnr"]) / float(plain[name]["cnr"]) for name in AGAIN}
    expected = {"cxrbert-ldm": 0.27, "radbert-ldm": 0.19, "cxrclip-ldm": 0.45, "clip-ldm": 0.15}
    assert losses == pytest.approx(expected, abs=0.005)
    assert float(plain["cxrbert-ldm"]["cnr"]) - float(plain["clip-ldm"]["cnr"]) == pytest.approx(0.061, abs=0.0005)
    assert max(AGAIN, key=lambda name: float(plain[name]["phrase_discrimination"])) == "cxrclip-ldm"
