"""The runs that a plot shows, and what it calls them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gtg_bench.benchmark.analysis.estimates import estimate
from gtg_bench.benchmark.analysis.seeds import find_method, mean_of, repeats
from gtg_bench.benchmark.analysis.sensitivity import PLAIN, find_controls, is_prior
from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.api.settings import of_phantom
from gtg_bench.benchmark.metrics import METRICS
from gtg_bench.benchmark.runs.labels import labels
from gtg_bench.benchmark.runs.lookup import FinishedRun, conditions, read_run, specs_in
from gtg_bench.benchmark.runs.spec import VALIDATION, RunSpec
from gtg_bench.benchmark.scoring.protocols import DEFAULT, definition, protocol_of
from gtg_bench.benchmark.statistics import Estimate

DATASET = "phantom"
_COMMAND = "gtg-bench run --method cxrbert-ldm --method class-prior"
_AVERAGES = {
    "overall": "mean over samples",
    "macro": "mean over categories",
    "frequency2": "mean weighted by each category's squared sample count",
}


def find_runs(
    runs_dir: Path,
    names: Sequence[str] = (),
    dataset: str | None = None,
    at_least: int = 1,
    controls: bool = False,
    metric: str | None = None,
) -> list[FinishedRun]:
    """The runs that a plot shows.

    Args:
        runs_dir: folder of the runs.
        names: as for `seeds.find_method`, kept in this order. Without names: every method and setting with a finished
            run, seeds as their mean, under the conditions that most runs share; methods by their score, priors last.
        dataset: only runs on this data set; None takes the phantom, or else the only one with runs.
        at_least: number of runs that the plot needs.
        controls: without names, also show runs under a control, each after its method.
        metric: without names, leave out runs in which it is undefined for every sample, such as the CNR of constant
            maps; None takes the protocol's primary metric.

    Raises:
        UsageError: a name that refers to no run or to several, or fewer runs than needed; the message has a command
            that makes some.
    """
    if names:
        first = find_method(runs_dir, names[0], dataset)
        others = list(dict.fromkeys(names))[1:]
        runs = [first, *(find_method(runs_dir, name, dataset, first.spec) for name in others)]
    else:
        specs = usual_specs(runs_dir, dataset)
        plain = [spec for spec in specs if spec.control == PLAIN]
        runs = in_order([mean_of([read_run(runs_dir, spec) for spec in group]) for group in repeats(plain)])
        shown = metric_of(runs, metric) if runs else ""
        runs = [run for run in runs if any(shown in record.metrics for record in run.records)]
        if controls:
            runs = [one for run in runs for one in (run, *find_controls(runs_dir, run).values())]
    if len(runs) < at_least:
        raise UsageError(
            f"{runs_dir}: this plot needs {at_least} runs, not {len(runs)}; make them with `{_command(runs_dir)}`"
        )
    return runs


def usual_specs(runs_dir: Path, dataset: str | None) -> list[RunSpec]:
    """All runs of a data set under the conditions, and on as many samples, as most of them.

    Raises:
        UsageError: no run, or several data sets to choose from.
    """
    specs = list(specs_in(runs_dir, dataset))
    found = sorted({spec.dataset for spec in specs})
    if not found:
        where = f"{runs_dir} has no finished run" + (f" on {dataset}" if dataset else "")
        raise UsageError(f"{where}; make some with `{_command(runs_dir, dataset)}`")
    chosen = dataset or (DATASET if DATASET in found or len(found) > 1 else found[0])
    if chosen not in found:
        raise UsageError(f"{runs_dir} has runs on {', '.join(found)}; choose one with --dataset")
    groups: dict[str, list[RunSpec]] = {}
    for spec in specs:
        if spec.dataset == chosen:
            groups.setdefault(repr((conditions(spec), spec.limit)), []).append(spec)
    return max(groups.values(), key=lambda group: (sum(s.control == PLAIN for s in group), *_usualness(group[0])))


def _usualness(spec: RunSpec) -> tuple[bool, bool, bool]:
    return spec.split != VALIDATION, definition(spec.as_json()) == DEFAULT, spec.limit is None


def _command(runs_dir: Path, dataset: str | None = None) -> str:
    more = "" if dataset in (None, DATASET) else f" --dataset {dataset} --data-root DIR"
    return _COMMAND + more + ("" if runs_dir == Path("runs") else f" --runs-dir {runs_dir}")


def in_order(runs: Sequence[FinishedRun]) -> list[FinishedRun]:
    """Runs from the best to the worst by their protocol's primary metric, priors and baselines last."""

    def rank(run: FinishedRun) -> tuple[bool, float]:
        rules = protocol_of(run.spec.protocol)
        value = estimate(run, rules.primary, rules.average).value
        sign = -1 if METRICS[rules.primary].higher_is_better else 1
        return is_prior(run.spec.method), float("inf") if value is None else sign * value

    return sorted(runs, key=rank)


def is_reference(run: FinishedRun) -> bool:
    """Whether a run is drawn in grey: a prior, a baseline, or a run under a control."""
    return is_prior(run.spec.method) or run.spec.control != PLAIN


def names_of(runs: Sequence[FinishedRun]) -> list[str]:
    """What each run is called in a plot: its method, sampling mode and the settings that tell the runs apart."""
    found = []
    for run, parts in zip(runs, labels([run.spec.as_json() for run in runs]), strict=True):
        if run.parts:
            parts = [part for part in parts if not part.startswith(("seed ", "weights "))]
            parts += [f"mean of {len(run.parts)} runs"]
        parts += [run.spec.control] if run.spec.control != PLAIN else []
        found.append(", ".join(parts))
    return found


def metric_of(runs: Sequence[FinishedRun], metric: str | None) -> str:
    """The metric, or the primary one of the first run's protocol. Raises UsageError if it was not scored."""
    from gtg_bench.benchmark.analysis.compare import check_metrics

    rules = protocol_of(runs[0].spec.protocol)
    chosen = metric or rules.primary
    check_metrics([chosen])
    if not any(chosen in record.metrics for run in runs for record in run.records):
        raise UsageError(
            f"{chosen} was not scored by protocol {rules.name}; it has {', '.join(rules.metrics)}, and "
            "`gtg-bench score RUN --protocol strict` scores stored maps by another one"
        )
    return chosen


def average_of(runs: Sequence[FinishedRun], average: str | None) -> str:
    """The average, or that of the first run's protocol."""
    return average or protocol_of(runs[0].spec.protocol).average


def data_note(run: FinishedRun) -> str:
    """The data of a run in words: data set, version, split, and whether only the first samples were scored."""
    spec = run.spec
    generated = " (generated images)" if spec.dataset == DATASET else ""
    options = f", {spec.dataset_options}" if spec.dataset_options else ""
    first = f", first {spec.limit} samples" if spec.limit else ""
    return f"{spec.dataset} v{spec.dataset_version.removeprefix('v')}{generated}{options}, {spec.split} split{first}"


def caption_of(runs: Sequence[FinishedRun], what: str, found: Sequence[Estimate], *more: str) -> str:
    """A caption: what is shown, on which data, with how many samples and patients.

    Args:
        runs: at least one.
        what: what is shown, without a full stop.
        found: one for each run, for their counts.
        more: further sentences.
    """
    counts = f"{span([one.n for one in found])} samples of {span([one.n_patients for one in found])} patients"
    undefined = [one.n_undefined for one in found if one.n_undefined]
    note = [f"undefined for {span(undefined)} further samples"] if undefined else []
    weights = "Phantom weights." if any(of_phantom(run.spec.settings.weights) for run in runs) else ""
    rules = definition(runs[0].spec.as_json())
    sentences = [f"{what} on {data_note(runs[0])}: {'; '.join([counts, *note])}", f"Protocol {rules}", *more]
    return " ".join([*(f"{one}." for one in sentences if one), weights]).strip()


def average_name(average: str) -> str:
    """An average in words."""
    return _AVERAGES[average]


def span(numbers: Sequence[int]) -> str:
    """ "60", or "54 to 60"."""
    low, high = min(numbers, default=0), max(numbers, default=0)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
