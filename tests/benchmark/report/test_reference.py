"""leaderboards/README.md says what the shipped CSV files say."""

from __future__ import annotations

import re
from pathlib import Path

from gtg_bench.benchmark.report import leaderboard
from gtg_bench.benchmark.report.leaderboard import REFERENCE, Row

README = Path(__file__).parents[3] / "leaderboards" / "README.md"
ROWS = leaderboard.read(REFERENCE / "phantom.csv")
PLAIN = {"control": "none", "dataset_options": "", "tokens": "lexical", "bbm": "none", "sampling": "gt-cfg"}
MAIN = {"method": "cxrbert-ldm", "weights": "phantom"}
MODES = ("text", "cfg", "gt1-cfg", "gt-cfg")
VARIANTS = (
    *("cxrbert-ldm", "radbert-ldm", "medkebert-ldm", "clip-ldm-learnable", "clip-ldm-lora", "openclip-ldm"),
    *("clip-ldm", "cxrclip-ldm"),
)


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
    plain, controls = ("auroc", "top1", "phrase_discrimination"), ("phrase-swap", "image-swap")
    rows = [["weights", "method", "cnr [95 % CI]", *plain, *controls]]
    runs = [*(("phantom-quick", name) for name in VARIANTS)]
    runs += [("phantom", name) for name in ("biovil", "biovil-l", "cxrbert-ldm")]
    for weights, method in runs:
        run = {"weights": weights, "method": method}
        cells = [number(metric, **run) for metric in plain]
        cells += [number("cnr", **run, control=name) for name in controls]
        rows.append([f"`{weights}`", f"`{method}`", interval("cnr", **run), *cells])
    return rows


def settings_numbers() -> list[str]:
    """The numbers on other settings of the main job's weights, in the README's order."""
    found = [number("auroc", **MAIN, sampling=mode) for mode in MODES]
    found += [number("auroc", **MAIN, tokens="end"), number("cnr", **MAIN, bbm="mixture"), number("cnr", **MAIN)]
    found += [number("auroc", "all", **MAIN), number("cnr", "all", **MAIN)]
    world = {**MAIN, "dataset_options": "seed=1"}
    found += [number(metric, **world) for metric in ("auroc", "cnr", "top1", "phrase_discrimination")]
    clip = {"method": "clip-ldm", "weights": "phantom"}
    return [*found, number("auroc", **clip), number("auroc", **clip, control="neutral-phrase")]


def ablation_numbers() -> list[str]:
    """The numbers in the text below the ablation: averages over all layers, training seeds; last, uniform's miou."""
    whole = {name: number("cnr", "all", method=name, weights="phantom-quick") for name in VARIANTS}
    ranks = sorted(whole.values(), key=float, reverse=True)
    assert ranks[:2] == [whole["cxrbert-ldm"], whole["radbert-ldm"]]
    weights = [f"phantom-quick{seed}" for seed in ("", "@1759", "@6357")]
    seeds = [number("cnr", method=name, weights=one) for name in ("cxrbert-ldm", "clip-ldm") for one in weights]
    return [*ranks[:3], ranks[-1], *seeds, number("miou", method="uniform")]


def test_the_readme_shows_the_shipped_numbers() -> None:
    text = README.read_text(encoding="utf-8")
    for rows in (main_rows(), ablation_rows()):
        lines = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
        table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
        assert table in text
        text = text.replace(table, "")
    text = re.sub(r"^## (The audit|Image quality).*?(?=^## )", "", text, flags=re.M | re.S)  # not of a leaderboard
    assert re.findall(r"-?\d\.\d{2,}", text) == settings_numbers() + ablation_numbers()


def test_what_the_readme_says_about_the_numbers_holds() -> None:
    main, prior, classes = found(**MAIN), found(method="phrase-prior"), found(method="class-prior")
    assert float(main["cnr_low"]) > float(classes["cnr_high"])
    assert float(main["cnr_low"]) < float(prior["cnr"]) < float(main["cnr_high"])
    assert float(main["top1_low"]) > float(prior["top1_high"])
    assert float(main["phrase_discrimination_high"]) < float(prior["phrase_discrimination_low"])
    swapped, moved = found(**MAIN, control="phrase-swap"), found(**MAIN, control="image-swap")
    assert float(swapped["phrase_discrimination_low"]) < 0.5 < float(swapped["phrase_discrimination_high"])
    assert float(moved["cnr"]) < float(main["cnr"]) / 2
    assert float(swapped["cnr"]) < 0.51 * float(main["cnr"])
    for name in VARIANTS:
        run = {"method": name, "weights": "phantom-quick"}
        modes = {mode: float(found(**run, sampling=mode)["cnr"]) for mode in MODES}
        assert max(MODES, key=lambda mode: modes[mode]) == "gt-cfg"
        row, swapped, moved = (found(**run, control=control) for control in ("none", "phrase-swap", "image-swap"))
        assert float(swapped["cnr"]) > 0.8 * float(row["cnr"])
        assert (float(moved["cnr"]) < float(row["cnr_low"])) == (name != "clip-ldm")
