"""Write the page: data as JSON in a Jinja2 template, with its own style sheet and script."""

from __future__ import annotations

import hashlib
import random
from base64 import b64encode
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from math import isfinite
from pathlib import Path
from typing import Any

from gtg_bench.benchmark.analysis.subgroups import BY, TRAITS
from gtg_bench.benchmark.api.errors import GtgError
from gtg_bench.benchmark.api.types import SampleRecord
from gtg_bench.benchmark.metrics import METRICS
from gtg_bench.benchmark.paths import write_text
from gtg_bench.benchmark.report.html import evidence as found
from gtg_bench.benchmark.report.html.pictures import Album, Stored, palette, region_of, similarity, stored
from gtg_bench.benchmark.report.tables.analysis_tables import GROUPS
from gtg_bench.benchmark.report.tables.document import HEADINGS
from gtg_bench.benchmark.report.tables.selection import AVERAGE_NAMES, title_of
from gtg_bench.benchmark.runs.labels import as_text
from gtg_bench.benchmark.runs.rescore import Place
from gtg_bench.benchmark.scoring.protocols import protocol_of

MANY, PICTURED, EXTREMES, GROUP_EXTREMES = 2000, 1500, 40, 10
"""From MANY samples on about PICTURED have pictures: the lowest and highest of every kind, others by a fixed seed."""

DIGITS = 4
STATUSES = ("ok", "unscorable", "failed")
Json = dict[str, Any]


def write_report(
    names: Sequence[str],
    path: Path,
    runs_dir: Path = Path("runs"),
    dataset: str | None = None,
    private: bool = False,
    place: Place | None = None,
) -> Path:
    """Write one self-contained HTML file about runs, for a browser without a network.

    Args:
        names: runs, see `analysis.seeds.find_method`; the first is A. None takes all that can be compared, best first.
        path: file to write.
        runs_dir: folder of the runs.
        dataset: only runs on this data set.
        private: leave out phrases, ids, pictures, messages and paths, and shuffle the samples.
        place: where the data set is now; default as in the runs' manifests.

    Returns:
        The path.

    Raises:
        UsageError: a name that refers to no run or several, or runs under different conditions.
        DataError: two runs share no sample.
        PlaceError: the file cannot be written.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    here = Path(__file__).parent
    evidence = found.collect(runs_dir, names, dataset)
    data, notes = _data(evidence, runs_dir, place or Place(), private)
    spec = evidence.lines[0].run.spec
    rules = protocol_of(spec.protocol)
    style, script = ((here / f"report.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    environment = Environment(
        loader=FileSystemLoader(here), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.policies["json.dumps_kwargs"] = {"ensure_ascii": False, "separators": (",", ":"), "allow_nan": False}
    shown = {
        "title": title_of({name: as_text(value) for name, value in spec.as_json().items()}),
        "average": AVERAGE_NAMES[rules.average],
        "warnings": [*found.warnings(evidence, runs_dir, dataset, private), *notes],
        "sentences": found.sentences(evidence),
        "provenance": [[line.label, found.provenance(line, runs_dir, private)] for line in evidence.lines],
        "data": data,
        "audits": found.audits(evidence, runs_dir, private),
    }
    if private:
        shown = _hidden(shown, found.secrets(evidence))
    text = environment.get_template("report.html.jinja").render(
        **shown,
        protocol=rules,
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        metrics={name: METRICS[name] for name in rules.metrics},
        headings=HEADINGS,
        style=style,
        script=script,
        policy=f"default-src 'none'; img-src data:; style-src {_digest(style)}; script-src {_digest(script)}",
    )
    write_text(path, text)
    return path


def _digest(text: str) -> str:
    """A source of a Content-Security-Policy: only this very text may run, whatever else slips into the page."""
    return f"'sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _data(evidence: found.Evidence, runs_dir: Path, place: Place, private: bool) -> tuple[Json, list[str]]:
    """Everything that the script shows, and warnings about pictures."""
    lines, metrics = evidence.lines, evidence.report.metrics
    records = [{record.sample_id: record for record in line.run.records} for line in lines]
    own: dict[str, SampleRecord] = {}
    for index in sorted(range(len(lines)), key=lambda index: lines[index].role == "control"):
        own = records[index] | own  # a control's record has another phrase: it counts only if no other run has one
    ids = list(dict.fromkeys(name for by_id in records for name in by_id))
    if private:  # the order of a published file would tell which sample is which
        random.Random(0).shuffle(ids)
    runs: list[Json] = []
    for line, by_id in zip(lines, records, strict=True):
        each = [by_id.get(name) for name in ids]
        run: Json = {"key": line.key, "label": line.label, "role": line.role, "plain": line.plain}
        run["control"] = line.run.spec.control
        run["counts"] = {status: sum(r.status == status for r in line.run.records) for status in STATUSES}
        run["estimates"] = found.estimates(line, metrics, evidence.report.average)
        run["status"] = [-1 if r is None else STATUSES.index(r.status) for r in each]
        run["values"] = {
            name: [None if r is None or name not in r.metrics else _short(r.metrics[name]) for r in each]
            for name in metrics
        }
        if not private:
            run["phrase"] = [None if r is None or r.phrase == own[r.sample_id].phrase else r.phrase for r in each]
            run["error"] = {i: r.error for i, r in enumerate(each) if r is not None and r.error}
            run["note"] = {i: r.note for i, r in enumerate(each) if r is not None and r.note}
        runs.append(run)
    facts = [own[name] for name in ids]
    second = [subject.run.keys for subject in evidence.report.subjects[1:2]]
    samples: Json = {by: [of(record) for record in facts] for by, (of, _) in BY.items() if by not in TRAITS}
    if not private:
        samples |= {"id": ids, "phrase": [r.phrase for r in facts], "image": [r.image_id for r in facts]}
    data: Json = {
        "private": private,
        "metrics": {n: {"higher": METRICS[n].higher_is_better, "summary": METRICS[n].summary} for n in metrics},
        "headings": HEADINGS,
        "second": next((i for i, line in enumerate(lines) if line.run.keys in second), -1),
        "by": GROUPS,
        "primary": evidence.report.subjects[0].primary,
        "groups": {
            by: [name for name in order if name in samples[by]] for by, (_, order) in BY.items() if by in samples
        },
        "n": len(ids),
        "runs": runs,
        "samples": samples,
        "differences": list(found.differences(evidence)),
        "pictured": None,
    }
    if private:
        return data, ["Private report: phrases, ids, pictures, messages and folders are left out."]
    return data, _add_pictures(data, evidence, runs_dir, place, ids)


def _add_pictures(data: Json, evidence: found.Evidence, runs_dir: Path, place: Place, ids: Sequence[str]) -> list[str]:
    """Add images, regions and maps to the page's data; return warnings."""
    notes, album, runs = [], Album(), data["runs"]
    sources: list[Stored | None] = []
    for line in evidence.lines:
        try:
            sources.append(stored(runs_dir, (line.run.parts or (line.run,))[0].spec, place))
        except (GtgError, OSError) as error:
            sources.append(None)
            notes.append(f"No pictures of {line.label}: {error}")
    for run, source in zip(runs, sources, strict=True):
        plain = sources[run["plain"]] if run["plain"] is not None else None
        if run["control"] in ("phrase-swap", "neutral-phrase") and source is not None and plain is not None:
            run["similarity"] = [_alike(source, plain, name) for name in ids]
    chosen, rule = _gallery(data)
    data["pictured"] = rule
    if rule:
        notes.append(rule)
    regions: list[Json | None] = [None] * len(ids)
    pictures: list[int | None] = [None] * len(ids)
    for run, source in zip(runs, sources, strict=True):
        heats: list[Json | None] = [None] * len(ids)
        run["regions"] = {}
        for i in chosen if source is not None else ():
            assert source is not None
            trial = source.trials.get(ids[i])
            if trial is None or run["status"][i] < 0:
                continue
            try:
                if pictures[i] is None:
                    pictures[i] = album.image(source.dataset, trial.sample)
                    regions[i] = region_of(trial.sample)
                if trial.scored_on is not trial.sample:
                    run["regions"][i] = region_of(trial.scored_on)
                heats[i] = album.heat(source.maps.load(ids[i]), trial, source.rules)
            except (GtgError, ValueError) as error:  # no map is stored, or a map or region is damaged
                album.missing(str(error))
        run["heats"] = heats
    data |= {"images": album.images, "maps": album.maps, "colours": palette()}
    data["samples"] |= {"picture": pictures, "region": regions}
    if album.problems:
        notes.append(f"{len(album.problems)} pictures are missing or incomplete; the first: {album.problems[0]}")
    return notes


def _alike(one: Stored, other: Stored, sample_id: str) -> float | None:
    ours, theirs = one.load(sample_id), other.load(sample_id)
    value = None if ours is None or theirs is None else similarity(ours.values, theirs.values)
    return None if value is None else _short(value)


def _gallery(data: Json) -> tuple[list[int], str]:
    """Indices of the samples that get pictures, in order, and the rule in words; "" if all do."""
    n, metric = data["n"], data["primary"]
    if n < MANY:
        return list(range(n)), ""
    columns = [run["values"][metric] for run in data["runs"] if run["role"] != "control"]
    differences = [
        [None if a is None or b is None else a - b for a, b in zip(columns[0], other, strict=True)]
        for other in columns[1:]
    ]
    columns += [*differences, *(run["similarity"] for run in data["runs"] if "similarity" in run)]
    chosen: set[int] = set()
    for column in columns:
        chosen |= _ends(column, range(n), EXTREMES)
    for column in differences[:1]:
        groups: dict[tuple[str, str], list[int]] = {}
        for i, group in enumerate(zip(data["samples"]["side"], data["samples"]["size"], strict=True)):
            groups.setdefault(group, []).append(i)
        chosen.update(*(_ends(column, group, GROUP_EXTREMES) for group in groups.values()))
    extremes = len(chosen)
    others = [i for i in range(n) if i not in chosen]
    chosen.update(random.Random(0).sample(others, min(len(others), max(0, PICTURED - extremes))))
    rule = (
        f"{len(chosen):,} of {n:,} samples have pictures: the {EXTREMES} lowest and highest {metric} of every run and "
        f"differences from the first run, the {EXTREMES} maps that change least and most with the phrase, the "
        f"{GROUP_EXTREMES} lowest and highest differences between the first two runs for every side and size "
        f"({extremes:,} samples together), and {len(chosen) - extremes:,} drawn at random with a fixed seed. All "
        "samples count in tables, filters and charts."
    )
    return sorted(chosen), rule


def _ends(column: Sequence[float | None], of: Sequence[int], count: int) -> set[int]:
    """Which of these samples have the `count` lowest and highest values."""
    order = sorted((i for i in of if column[i] is not None), key=lambda i: column[i] or 0)
    return {*order[:count], *order[-count:]}


def _short(value: float) -> float | None:
    return round(value, DIGITS) if isfinite(value) else None


def _hidden(value: Any, secrets: Mapping[str, str]) -> Any:
    """The value with these texts in its strings replaced."""
    if isinstance(value, dict):
        return {key: _hidden(one, secrets) for key, one in value.items()}
    if isinstance(value, list):
        return [_hidden(one, secrets) for one in value]
    if isinstance(value, str):
        for text, instead in secrets.items():
            value = value.replace(text, instead)
    return value
