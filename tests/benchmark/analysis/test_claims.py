"""Every sentence about two runs is held against a computation of its own, on runs made to be better, equal or few."""

from __future__ import annotations

import io
import itertools
import re
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
from rich.console import Console
from scipy import stats

from gtg_bench.benchmark.analysis.compare import ALL, Difference, compare_with_all, in_words
from gtg_bench.benchmark.analysis.control_battery import sensitivities
from gtg_bench.benchmark.analysis.sensitivity import CHANGES, contrasts, control_in_words, prior_in_words
from gtg_bench.benchmark.analysis.subgroups import subgroups
from gtg_bench.benchmark.api.settings import MethodSettings
from gtg_bench.benchmark.api.types import SampleRecord
from gtg_bench.benchmark.report.tables.analysis_tables import show_context, show_subgroups
from gtg_bench.benchmark.runs.lookup import FinishedRun
from gtg_bench.benchmark.runs.spec import RunSpec
from gtg_bench.benchmark.statistics import holm


@dataclass(frozen=True)
class Case:
    """Two runs, each patient with two samples: how many patients, A's gain and its noise, categories, a margin."""

    patients: int
    gain: float
    noise: float
    categories: str = "AB"
    margin: float = 0.02


CASES = {
    "better": Case(40, 0.1, 0.1),
    "worse": Case(40, -0.1, 0.1),
    "identical": Case(30, 0.0, 0.0),
    "unclear": Case(30, 0.0, 0.2),
    "equivalent": Case(200, 0.0, 0.05),
    "few": Case(9, 0.2, 0.1),
    "too few": Case(4, 0.2, 0.1),
    "many": Case(5000, 0.006, 0.1),
    "one category": Case(25, 0.1, 0.1, "A"),
}
NUMBERS = re.compile(
    r"A - B = (?P<difference>-?[\d.]+) \(95 % CI (?P<low>-?[\d.]+) to (?P<high>-?[\d.]+), p = (?P<p>[\d.e-]+)"
    r"(, corrected p = (?P<corrected>[\d.e-]+))?"
    r"(; the 90 % CI, (?P<low90>-?[\d.]+) to (?P<high90>-?[\d.]+), is (?P<outside>not )?within the margin [\d.]+)?; "
    r"(?P<n>[\d,]+) samples(?: of (?P<enough>[\d,]+) patients|, only (?P<few>\d+) patients: unreliable CI)\)"
)


@cache
def runs(name: str) -> tuple[FinishedRun, FinishedRun]:
    """A and B."""
    case, random = CASES[name], np.random.default_rng(7)
    base = random.random((case.patients, 2))
    gain = case.gain + case.noise * random.standard_normal((case.patients, 1)) * np.ones((1, 2))
    gain -= (gain.mean() - case.gain) * (case.gain == 0)  # exactly no difference on average

    def run(method: str, values: np.ndarray) -> FinishedRun:
        spec = RunSpec("d", "1", "", "s", None, "test", None, MethodSettings(method))
        records = [
            SampleRecord(f"{p}/{k}", f"i{p}", f"p{p}", case.categories[p % len(case.categories)], "ok", {"iou": value})
            for (p, k), value in np.ndenumerate(values)
        ]
        return FinishedRun(spec, records)

    return run("a", base + gain), run("b", base)


def own_p(means: np.ndarray) -> float:
    """By flipping the sign of each patient: all patterns, or the normal limit."""
    means = np.where(np.abs(means) < 1e-9, 0, means)
    if not means.any():
        return 1.0
    if len(means) > 12:
        return float(2 * stats.norm.sf(abs(means.sum()) / np.sqrt((means**2).sum())))
    sums = [abs(np.dot(signs, means)) for signs in itertools.product([1, -1], repeat=len(means))]
    return float(np.mean(np.array(sums) >= abs(means.sum()) - 1e-9))


def own_interval(means: np.ndarray, level: float) -> tuple[float, float]:
    """The t interval of the patients' means, which all have the same number of samples."""
    half = stats.t.ppf((1 + level) / 2, len(means) - 1) * means.std(ddof=1) / len(means) ** 0.5
    return means.mean() - half, means.mean() + half


def patients_of(name: str, category: str) -> np.ndarray:
    """A - B of each patient, by loops over the records."""
    a, b = runs(name)
    theirs, found = {r.sample_id: r.metrics["iou"] for r in b.records}, {}
    for record in a.records:
        if category in (ALL, record.category):
            found.setdefault(record.patient_id, []).append(record.metrics["iou"] - theirs[record.sample_id])
    return np.array([np.mean(values) for values in found.values()])


def check_numbers(said: str, means: np.ndarray, corrected: float, margin: float) -> None:
    """The numbers in a sentence are those of the patients' differences."""
    match = NUMBERS.search(said)
    assert match, said
    found = {name: text and text.replace(",", "") for name, text in match.groupdict().items()}
    assert float(found["difference"]) == pytest.approx(means.mean(), abs=6e-4)
    for level, ends in ((0.95, ("low", "high")), (0.9, ("low90", "high90"))):
        low, high = own_interval(means, level)
        printed = [float(found[end]) for end in ends]
        assert printed == pytest.approx([low, high], abs=0.15 * (high - low) + 6e-4)
    assert bool(found["outside"]) == (max(map(abs, own_interval(means, 0.9))) >= margin)
    assert float(found["p"]) == pytest.approx(own_p(means), abs=0.02)
    assert float(found["corrected"] or found["p"]) == pytest.approx(corrected, abs=0.05)
    assert int(found["n"]) == 2 * len(means)
    assert int(found["few"] or found["enough"]) == len(means)
    assert bool(found["few"]) == (len(means) < 20)


@pytest.mark.parametrize("name", CASES)
def test_a_comparison_says_what_its_numbers_show(name: str) -> None:
    (a, b), case = runs(name), CASES[name]
    rows = compare_with_all(a, [b], ["iou"], "overall", by_category=True, margins={"iou": case.margin})[0]
    assert [row.category for row in rows] == [ALL, *case.categories]
    expected = holm([own_p(patients_of(name, row.category)) for row in rows])
    for row, corrected in zip(rows, expected, strict=True):
        means, said = patients_of(name, row.category), in_words(row, "a", "b")
        if len(means) < 5:
            assert "cannot be compared" in said
            assert f"only {len(means)} patients: no CI" in said
            continue
        check_numbers(said, means, corrected, case.margin)
        significant = corrected < 0.05
        equivalent = max(map(abs, own_interval(means, 0.9))) < case.margin
        assert (" is better than " in said) == (significant and means.mean() > 0)
        assert (" is worse than " in said) == (significant and means.mean() < 0)
        assert ("by less than the margin" in said) == (significant and equivalent)
        assert ("is equivalent to" in said) == (equivalent and not significant)
        plain = in_words(Difference(row.metric, row.category, row.found, row.p_value, row.family), "a", "b")
        assert "equivalent" not in plain
        assert ("not significant" in plain or "not differ significantly" in plain) == (not significant)
    back = compare_with_all(b, [a], ["iou"], "overall")[0][0].found
    assert back.difference == pytest.approx(-rows[0].found.difference)


@pytest.mark.parametrize("name", CASES)
def test_controls_and_priors_say_what_their_numbers_show(name: str) -> None:
    (a, b), case, means = runs(name), CASES[name], patients_of(name, ALL)
    (found,) = contrasts(a, {"phrase-swap": b}, ["iou"], "overall", {"iou": case.margin})
    said, prior = control_in_words(found.rows[0], "a", "phrase-swap"), prior_in_words(found, "a")
    if len(means) < 5:
        assert "shows nothing" in said
        assert "cannot be compared" in prior
        return
    p = own_p(means)
    if means.any():
        check_numbers(said, means, p, case.margin)
    assert said.startswith("a uses the phrase") == (p < 0.05 and means.mean() > 0)
    assert said.startswith("a scores better with") == (p < 0.05 and means.mean() < 0)
    assert said.startswith("No evidence that a uses") == (p >= 0.05)
    assert ("unchanged in all" in said) == (not means.any())
    equivalent = max(map(abs, own_interval(means, 0.9))) < case.margin
    verdict = "better than" if means.mean() > 0 else "worse than"
    verdict = verdict if p < 0.05 else "equivalent to" if equivalent else "not significantly different from"
    assert prior.startswith(f"a is {verdict} phrase-swap in iou")


@pytest.mark.parametrize("name", ["better", "few", "too few", "one category"])
def test_subgroups_name_the_few(name: str) -> None:
    console = Console(file=io.StringIO(), width=80)
    chosen = runs(name)
    show_subgroups(subgroups(chosen, ["category"], ["iou"]), chosen, console)
    said = " ".join(console.file.getvalue().split())  # type: ignore[attr-defined]
    for category in (ALL, *CASES[name].categories):
        count = len(patients_of(name, category))
        note = f"only {count} patients: {'no' if count < 5 else 'unreliable'} CI"
        assert (f"{'all samples' if category == ALL else category}: {note}" in said) == (count < 20)


def test_the_battery_pairs_controls_of_fewer_samples() -> None:
    """side-swap has only the first ten patients; on these it changes nothing, though the two means differ."""
    a, _ = runs("better")
    part = [record for record in a.records if int(record.patient_id[1:]) < 10]
    spec = RunSpec("d", "1", "", "other", None, "test", None, MethodSettings("a"), control=CHANGES[-1])
    (subject,) = sensitivities([a, FinishedRun(spec, part)])
    row = next(row for row in subject.controls[0].rows if row.metric == "iou")
    means = [np.mean([record.metrics["iou"] for record in records]) for records in (a.records, part)]
    assert (row.found.difference, row.found.n, row.found.ties) == (0, 20, 20)
    assert (row.found.ours, row.found.theirs) == pytest.approx([means[1]] * 2)
    assert abs(means[0] - means[1]) > 0.01
    console = Console(file=io.StringIO(), width=80)
    show_context(subject, console)
    assert "side-swap: only 10 patients: unreliable CI" in " ".join(console.file.getvalue().split())  # type: ignore[attr-defined]
