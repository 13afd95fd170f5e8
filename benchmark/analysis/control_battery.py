"""One method plain and under every control that its data allows: what `gtg-bench run --all-controls` runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from gtg_bench.benchmark.analysis.comparison import Subject
from gtg_bench.benchmark.analysis.sensitivity import CHANGES, PLAIN, alike_but_control, contrasts
from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.runs.lookup import FinishedRun
from gtg_bench.benchmark.runs.runner import PreparedRun, RunRequest, prepare
from gtg_bench.benchmark.scoring.protocols import protocol_of


@dataclass(frozen=True)
class Battery:
    """The runs of one method."""

    runs: tuple[tuple[RunRequest, PreparedRun], ...]
    """Requests and prepared runs: plain first, then the controls in their order."""
    impossible: Mapping[str, str]
    """Control -> why this data does not allow it."""


def prepare_battery(request: RunRequest, make: Callable[[RunRequest], PreparedRun] = prepare) -> Battery:
    """Prepare a method's run, plain and under every control that the data allows.

    Args:
        request: the run; its own control is ignored.
        make: prepares one run.

    Raises:
        UsageError or DataError: the plain run is not possible either.
    """
    plain = replace(request, control=PLAIN)
    runs, impossible = [(plain, make(plain))], {}
    for control in CHANGES:
        changed = replace(request, control=control)
        try:
            runs.append((changed, make(changed)))
        except UsageError as error:
            impossible[control] = str(error)
    return Battery(tuple(runs), impossible)


def sensitivities(runs: Sequence[FinishedRun]) -> list[Subject]:
    """Each plain run against its controls, in order.

    Args:
        runs: plain and control runs of any methods and settings; controls without their plain run are ignored.
    """
    found = []
    for run in runs:
        if run.spec.control == PLAIN:
            protocol = protocol_of(run.spec.protocol)
            alike = {other.spec.control: other for other in runs if alike_but_control(run.spec, other.spec)}
            controls = {control: alike[control] for control in CHANGES if control in alike}
            rows = contrasts(run, controls, protocol.metrics, protocol.average)
            found.append(Subject(run.name, run, protocol.primary, controls=tuple(rows)))
    return found
