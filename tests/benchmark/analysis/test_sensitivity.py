"""What a method uses: runs against controls and priors, and the commands that make them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gtg_bench.benchmark.analysis.control_battery import sensitivities
from gtg_bench.benchmark.analysis.seeds import find_method
from gtg_bench.benchmark.analysis.sensitivity import (
    CHANGES,
    contrasts,
    control_in_words,
    find_controls,
    find_priors,
    prior_in_words,
)
from gtg_bench.benchmark.runs.lookup import FinishedRun, find_run
from gtg_bench.benchmark.runs.spec import RunSpec

Make = Callable[..., RunSpec]
BASE = np.random.default_rng(3).random(40)
NOISE = np.random.default_rng(4).normal(0, 0.05, 40)


def test_controls_are_found_by_everything_but_what_follows_from_them(runs: Path, finished: Make) -> None:
    plain = finished()
    wanted = finished(control="phrase-swap", samples_sha256="another")
    finished(control="phrase-swap", layers="3")
    finished(control="image-swap", seed=9)
    found = find_controls(runs, find_run(runs, plain.key))
    assert {control: run.spec for control, run in found.items()} == {"phrase-swap": wanted}
    assert find_controls(runs, find_run(runs, wanted.key)) == {}


def test_a_mean_over_seeds_has_a_control_where_every_seed_has_it(runs: Path, finished: Make) -> None:
    for seed in (1, 2):
        finished(seed=seed)
        finished(seed=seed, control="side-swap", values=BASE * seed)
    finished(seed=1, control="image-swap")
    (found,) = find_controls(runs, find_method(runs, "ours")).items()
    assert found[0] == "side-swap"
    by_id = {record.sample_id: record.metrics["iou"] for record in found[1].records}
    assert by_id["s7"] == pytest.approx(BASE[7] * 1.5)


def sentences(runs: Path, finished: Make, **controlled: Any) -> dict[str, str]:
    """Control -> the sentence about a run whose values are BASE."""
    run = find_run(runs, finished(values=BASE).key)
    found = {name: find_run(runs, finished(values=v, control=name).key) for name, v in controlled.items()}
    return {
        contrast.name: control_in_words(contrast.rows[0], "ours", contrast.name)
        for contrast in contrasts(run, found, ["iou"], "overall")
    }


def test_a_drop_a_rise_and_no_difference_in_words(runs: Path, finished: Make) -> None:
    values = {"phrase-swap": BASE - 0.2 + NOISE, "side-swap": BASE + NOISE, "image-swap": BASE + 0.2 + NOISE}
    said = sentences(runs, finished, **values)
    drop = 0.2 - NOISE.mean()
    assert said["phrase-swap"].startswith("ours uses the phrase: with the phrase of another finding, iou A - B = ")
    assert f" iou A - B = {drop:.3f} (95 % CI 0.1" in said["phrase-swap"]
    assert said["phrase-swap"].endswith("; 40 samples of 20 patients).")
    assert said["side-swap"].startswith("No evidence that ours uses laterality: ")
    assert said["image-swap"].startswith("ours scores better with the region of another patient")
    assert f" iou A - B = {-0.2 - NOISE.mean():.3f} (95 % CI -0.2" in said["image-swap"]


def test_only_samples_that_both_have_are_compared(runs: Path, finished: Make) -> None:
    """side-swap has fewer trials: the plain average is over those alone."""
    run = find_run(runs, finished(values=BASE).key)
    whole = find_run(runs, finished(values=BASE - 0.1, control="side-swap").key)
    part = FinishedRun(whole.spec, whole.records[5:15])
    (contrast,) = contrasts(run, {"side-swap": part}, ["iou"], "overall")
    found = contrast.rows[0].found
    assert (found.n, found.only_ours) == (10, 30)
    assert (found.ours, found.difference) == (pytest.approx(BASE[5:15].mean()), pytest.approx(0.1))
    assert contrasts(run, {"phrase-swap": FinishedRun(run.spec, [])}, ["iou"], "overall") == []


def test_priors_are_those_of_the_same_data_and_definition(runs: Path, finished: Make) -> None:
    run = find_run(runs, finished().key)
    wanted = {finished(method=name).key for name in ("class-prior", "uniform")}
    finished(method="class-prior", seed=5)
    finished(method="phrase-prior", mask="otsu")
    finished(method="phrase-prior", dataset_options="seed=1")
    finished(method="phrase-prior", control="phrase-swap")
    finished(method="clip-ldm")
    found = find_priors(runs, run)
    assert {prior.spec.key for prior in found.values()} == wanted
    assert list(find_priors(runs, found["uniform"])) == ["class-prior"]
    assert list(find_priors(runs, run, {found["class-prior"].spec.key})) == ["uniform"]


def test_a_prior_in_words(runs: Path, finished: Make) -> None:
    run = find_run(runs, finished(values=BASE).key)
    values = {"phrase-prior": BASE + 0.2, "class-prior": BASE + NOISE - NOISE.mean()}
    priors = {name: find_run(runs, finished(method=name, values=v).key) for name, v in values.items()}
    assert [prior_in_words(contrast, "ours") for contrast in contrasts(run, priors, ["iou"], "overall")] == [
        "ours is worse than phrase-prior in iou.",
        "ours is not significantly different from class-prior in iou.",
    ]


def test_compare_prints_controls_priors_and_what_is_missing(
    runs: Path, call: Callable[..., Any], finished: Make
) -> None:
    finished(values=BASE)
    finished(values=BASE - 0.3, control="neutral-phrase")
    finished(values=BASE - 0.1, method="class-prior")
    finished(values=BASE + 0.1, method="phrase-prior")
    words = ["compare", "ours", "phrase-prior", "--metric", "iou"]
    said = call(*words)
    assert "ours gt-cfg uses the phrase: with a phrase that names no finding, iou A - B = 0.300 " in said
    assert "ours gt-cfg is better than class-prior in iou." in said
    command = f"gtg-bench run --method ours --dataset d --steps 8 --guidance 16 --layers all --seed 1 --runs-dir {runs}"
    assert f"ours gt-cfg was not run under phrase-swap, image-swap, side-swap: {command} --all-controls" in said
    one, other = call(*words, "--json")["runs"]
    for kind, name, difference in (("controls", "neutral-phrase", 0.3), ("priors", "class-prior", 0.1)):
        (found,) = one[kind]
        assert (found["name"], found["metrics"][0]["difference"]) == (name, pytest.approx(difference))
    assert one["controls_missing"] == ["phrase-swap", "image-swap", "side-swap"]
    assert other["controls_missing"] == list(CHANGES)


def test_plain_runs_are_paired_with_their_controls(runs: Path, finished: Make) -> None:
    specs = [finished(values=BASE - 0.1 * k, control=name) for k, name in enumerate(("none", *CHANGES))]
    specs.append(finished(method="other"))
    ours, other = sensitivities([find_run(runs, spec.key) for spec in specs])
    assert [contrast.name for contrast in ours.controls] == list(CHANGES)
    line = next(line for line in ours.controls[2].rows if line.metric == "iou")
    assert (line.found.difference, line.family) == (pytest.approx(0.3), 4)
    assert (other.run.spec.method, other.controls, ours.primary) == ("other", (), "cnr")
    assert dataclasses.replace(specs[1], control="none").key == specs[0].key
