"""4. Does the method know when there is nothing?

The score of a map is its maximum before any normalisation, as in weakly supervised detection (Oquab et al., Is Object
Localization for Free?, CVPR 2015): protocols rescale every map to [0, 1], which hides whether it found anything. A
method whose maps are rescaled already has the maximum 1 everywhere, and an AUROC of 0.5.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from gtg_bench.benchmark.analysis.audit.finding import Finding, above, below, finding, impossible
from gtg_bench.benchmark.analysis.audit.subject import Done, Subject
from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.api.types import GroundingMap
from gtg_bench.benchmark.datasets.negation import negated
from gtg_bench.benchmark.scoring.probes import ABSENT
from gtg_bench.benchmark.statistics import Estimate, bootstrap, presence_auroc

TITLE = "Does it know when there is nothing?"
BAR = 0.6
_TEXT_ONLY = "phrase-prior"


def ask(subject: Subject) -> list[Finding]:
    """Present against absent findings, and against denials: AUROC of the maps' maximum, and the hot area."""
    name, unit = "present against absent", "AUROC"
    try:
        absent = subject.under(ABSENT)
    except UsageError as error:
        return [impossible(name, unit, _reason(str(error)))]
    denials = {key for key, trial in absent.trials.items() if negated(trial.phrase, trial.category)}
    kinds = {"absent": absent.records.keys() - denials, "denied": denials & absent.records.keys()}
    kinds = {kind: names for kind, names in kinds.items() if names}
    if not kinds:
        return [impossible(name, unit, "no phrase of an absent finding could be grounded")]
    main = next(iter(kinds))
    found = [_auroc(subject, absent, kind, names, kind == main) for kind, names in kinds.items()]
    return [*found, _area(subject, absent, main, kinds[main])]


def _reason(said: str) -> str:
    return "the data set has no phrases of absent findings" if "has no samples" in said else said


def _auroc(subject: Subject, absent: Done, kind: str, names: set[str], decides: bool) -> Finding:
    found = _presence(subject.plain, absent, names)
    try:
        prior = _presence(subject.other(_TEXT_ONLY), subject.other(_TEXT_ONLY, control=ABSENT), names).value
    except UsageError:
        prior = None
    floor = 0.5 if prior is None else prior
    bar = max(BAR, min(floor + BAR - 0.5, (floor + 1) / 2))
    rule = (
        f"yes if the CI is above {BAR} and {BAR - 0.5:.1f} above the floor (or, where that is nearer, above the middle "
        "of floor and 1), no if all of it is below"
    )
    note = "score of a map: its maximum before normalisation; pairs within a category, if any has both"
    note += "" if prior is None else f"; floor: {_TEXT_ONLY}, which sees only the text"
    facts = {"floor": floor, "ceiling": 1.0, "verdict": above(found, bar), "rule": rule, "note": note}
    return finding(f"present against {kind}", "AUROC", found, decides=decides, **facts)


def _presence(plain: Done, absent: Done, names: set[str]) -> Estimate:
    """The AUROC within categories, or over all phrases if no category has present and absent ones."""
    score = {**_maxima(plain.maps), **_maxima({key: absent.maps[key] for key in names if key in absent.maps})}
    trials = {**plain.trials, **absent.trials}
    keys = sorted(score)
    values, present = [score[key] for key in keys], [key in plain.maps for key in keys]
    categories = [trials[key].sample.category for key in keys]
    patients = [trials[key].sample.patient_id for key in keys]
    found = presence_auroc(values, present, categories, patients)
    return found if found.value is not None else presence_auroc(values, present, [""] * len(keys), patients)


def _maxima(maps: Mapping[str, GroundingMap]) -> dict[str, float]:
    return {name: confidence(grounding) for name, grounding in maps.items()}


def confidence(grounding: GroundingMap) -> float:
    """The maximum of a map; of a box answer the highest score, and less than any score if it has no box."""
    if grounding.answer is None:
        return float(grounding.values.max())
    return float(grounding.answer.scores.max(initial=np.finfo(np.float32).min))


def _area(subject: Subject, absent: Done, kind: str, names: set[str]) -> Finding:
    """The area above half the typical maximum, for absent or denied findings relative to present ones."""
    present = subject.plain.maps
    threshold = float(np.median([one.values.max() for one in present.values()])) / 2 if present else 0.0
    usual = float(np.mean([(one.values > threshold).mean() for one in present.values()])) if present else 0.0
    maps = {name: absent.maps[name] for name in sorted(names) if name in absent.maps}
    name, unit = f"hot area, {kind}/present", "ratio"
    if not usual or not maps:
        return impossible(name, unit, "no map exceeds half the median maximum")
    shares = [float((one.values > threshold).mean()) / usual for one in maps.values()]
    samples = [absent.trials[key].sample for key in maps]
    found = bootstrap(shares, [s.category for s in samples], [s.patient_id for s in samples])
    note = "threshold: half the median maximum of present findings"
    rule = "yes if the CI is below 0.9, no if all of it is above"
    facts = {"floor": 1.0, "ceiling": 0.0, "verdict": below(found, 0.9), "rule": rule}
    return finding(name, unit, found, note=note, decides=False, **facts)
