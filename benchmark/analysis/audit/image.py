"""3. Does the method use the image?"""

from __future__ import annotations

from dataclasses import replace

from gtg_bench.benchmark.analysis.audit.finding import NO, NONE, YES, Finding, above, finding, impossible
from gtg_bench.benchmark.analysis.audit.phrase import LOSS, loss
from gtg_bench.benchmark.analysis.audit.subject import MATERIAL, Subject
from gtg_bench.benchmark.api.errors import UsageError

TITLE = "Does it use the image?"


def ask(subject: Subject) -> list[Finding]:
    """The loss on another patient's region, and what the map does if its region or another area is filled."""
    swap, occluded = loss(subject, "image-swap"), _occlusion(subject)
    if swap.verdict != NO and any(finding.verdict != NONE for finding in occluded):
        note = 'counts only if the answer is "no", because the region of another patient may be at the same place'
        swap = replace(swap, decides=False, note=note)
    return [swap, *occluded]


def _occlusion(subject: Subject) -> list[Finding]:
    name, metric = "loss, region filled", subject.primary
    try:
        gone, kept = subject.under("occlude-region"), subject.under("occlude-elsewhere")
    except UsageError as error:
        return [impossible(name, metric, str(error))]
    bar = MATERIAL * subject.span()
    leaves, moves = subject.difference(subject.plain, gone), subject.difference(subject.plain, kept)
    selective = subject.difference(kept, gone)
    first, second = above(leaves, bar), above(selective, bar)
    said = "selective" if second == YES else "ignores the region" if first == NO else "unstable" if second == NO else ""
    facts = {"floor": 0.0, "ceiling": subject.span(), "rule": LOSS}
    how = "the area is filled smoothly from its border; a map of the lesion leaves its region and stays for the other"
    return [
        finding(name, metric, leaves, verdict=first, note=how, **facts),
        finding("loss, elsewhere filled", metric, moves, floor=0.0, decides=False),
        finding("first minus second", metric, selective, verdict=second, note=said, **facts),
    ]
