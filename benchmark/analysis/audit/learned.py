"""6. Do the maps depend on what the method learned?"""

from __future__ import annotations

from gtg_bench.benchmark.analysis.audit.finding import Finding, below, finding, impossible
from gtg_bench.benchmark.analysis.audit.subject import Subject
from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.scoring.probes import WEIGHTS

TITLE = "Do its maps depend on the trained weights?"
BAR = 0.5


def ask(subject: Subject) -> list[Finding]:
    """Agreement with the maps of ever more random weights, from the last layers on."""
    found = []
    for probe in WEIGHTS:
        share = probe.removeprefix("weights-")
        name = f"{share} % of layers random"
        try:
            ranks, _ = subject.agreement(subject.under(probe))
        except UsageError as error:
            return [impossible("layers random", "rank corr.", str(error))]
        last = probe == WEIGHTS[-1]
        note = "the values of each weight tensor are shuffled, from the output on" if last else ""
        rule = f"yes if the CI is below {BAR} for all layers, no if all of it is above" if last else ""
        facts = {"verdict": below(ranks, BAR)} if last else {"decides": False}
        found.append(finding(name, "rank corr.", ranks, floor=1.0, ceiling=0.0, rule=rule, note=note, **facts))
    return found
