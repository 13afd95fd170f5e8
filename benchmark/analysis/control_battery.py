"""One method plain and under every control that its data allows: what `gtg-bench run --all-controls` runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from gtg_bench.benchmark.analysis.sensitivity import CHANGES, PLAIN, Beside, alike_but_control, under_controls
from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.runs.lookup import FinishedRun
from gtg_bench.benchmark.runs.runner import PreparedRun, RunRequest, prepare
from gtg_bench.benchmark.scoring.protocols import protocol_of


@dataclass(frozen=True)
class Battery:
    """What is to be run of one method.

    Attributes:
        runs: request and prepared run, plain first, then the controls in their order.
        impossible: control -> why it cannot be made on this data.
    """

    runs: tuple[tuple[RunRequest, PreparedRun], ...]
    impossible: Mapping[str, str]


@dataclass(frozen=True)
class Listening:
    """What a method was shown to listen to.

    Attributes:
        run: without control.
        controls: the same under each control.
        primary: the metric that the sentences are about.
    """

    run: FinishedRun
    controls: tuple[Beside, ...]
    primary: str


def prepare_battery(request: RunRequest, make: Callable[[RunRequest], PreparedRun] = prepare) -> Battery:
    """Prepare a method's run, plain and under every control; a control that the data does not allow is passed over.

    Args:
        request: the run; its own control is left out of account.
        make: prepares one run.

    Raises:
        UsageError or DataError: the plain run cannot be made either.
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


def listen(runs: Sequence[FinishedRun]) -> list[Listening]:
    """What each method among runs was shown to listen to, in their order.

    Args:
        runs: plain ones and controls, of any methods and settings; a control without its plain run is left out.
    """
    found = []
    for run in runs:
        if run.spec.control == PLAIN:
            protocol = protocol_of(run.spec.protocol)
            alike = {other.spec.control: other for other in runs if alike_but_control(run.spec, other.spec)}
            under = {control: alike[control] for control in CHANGES if control in alike}
            beside = under_controls(run, under, protocol.metrics, protocol.average)
            found.append(Listening(run, tuple(beside), protocol.primary))
    return found
