"""Shared by the commands: errors as one line, and common options."""

from __future__ import annotations

import functools
import os
import signal
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, ParamSpec, TypeVar

import typer
from rich.markup import escape

from gtg_bench.benchmark.api.errors import GtgError, UsageError, described, plugin_line
from gtg_bench.benchmark.api.registry import METHODS
from gtg_bench.benchmark.report.terminal import Terminal
from gtg_bench.benchmark.runs.launch import ElsewhereError, Launch
from gtg_bench.benchmark.scoring.controls import CONTROLS
from gtg_bench.benchmark.scoring.protocols import FRAMES, PROTOCOLS, UNCOVERED

P = ParamSpec("P")
R = TypeVar("R")
out = Terminal()
err = Terminal(stderr=True, highlight=False)


def choice(values: Sequence[str], *names: str, help: str, panel: str | None = None) -> Any:
    """A typer option that accepts these values, once or, for a list, repeatedly; None stays None."""

    def check(value: str | list[str] | None) -> str | list[str] | None:
        for one in [value] if isinstance(value, str) else value or ():
            if one not in values:
                raise typer.BadParameter(f"{one!r} is not one of {', '.join(values)}")
        return value

    return typer.Option(*names, metavar=f"[{'|'.join(values)}]", help=help, callback=check, rich_help_panel=panel)


Plugins = Annotated[list[Path] | None, typer.Option("--plugin", help="Python file that registers methods; repeatable.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, mps ...")]
ControlOption = Annotated[str, choice(CONTROLS, "--control", help="Run a sanity-check control.")]
ProtocolOption = Annotated[
    str,
    choice(list(PROTOCOLS), "--protocol", help="Metrics, frame, mask and averages; see `gtg-bench list protocols`."),
]
FrameOption = Annotated[
    str | None,
    choice(
        FRAMES,
        "--frame",
        help="Compare in the 512 x 512 crop, in the image's own pixels, or padded to 518. (default: protocol's)",
    ),
]
UncoveredOption = Annotated[
    str | None,
    choice(
        UNCOVERED,
        "--uncovered",
        help="Pixels that a method does not cover get the map's lowest value, or are excluded. (default: protocol's)",
    ),
]
MaskOption = Annotated[
    str | None,
    typer.Option(
        "--mask",
        help="mixture, otsu, or a threshold on the min-max normalised map such as 0.5. (default: protocol's)",
    ),
]
SmoothOption = Annotated[
    str | None,
    typer.Option(
        "--smooth",
        help="Standard deviation of a Gaussian on the maps, as a fraction of the image's shorter side such as 0.06, "
        "or best: chosen for each method on the validation split, which is run first. (default: protocol's)",
    ),
]
RunsDir = Annotated[Path, typer.Option("--runs-dir", help="Folder of the records and maps.")]
LeaderboardsDir = Annotated[Path, typer.Option("--leaderboards-dir", help="Folder of the leaderboard CSV files.")]
DatasetOption = Annotated[
    list[str] | None,
    typer.Option("--dataset-option", metavar="KEY=VALUE", help="Option of the data set; repeatable."),
]
DataRoot = Annotated[
    Path | None, typer.Option("--data-root", help="Folder with the data set's annotations and images.")
]
Workers = Annotated[
    int, typer.Option("--workers", help="Threads that read the next batch's images; does not change results.")
]
ShardOption = Annotated[
    str | None,
    typer.Option(
        "--shard",
        metavar="K/N",
        help="Compute part K of N, as one of N independent jobs. The last one finishes the run.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Limit = Annotated[int | None, typer.Option("--limit", help="Evaluate only the first N samples.")]
BatchSize = Annotated[int, typer.Option("--batch-size", help="Samples per batch; does not change results.")]
FailFast = Annotated[bool, typer.Option("--fail-fast", help="Stop at the first sample that fails.")]
OnlyDataset = Annotated[str | None, typer.Option("--dataset", help="Only runs on this data set.")]


class _Terminated(BaseException):
    """SIGTERM, as a cluster sends it before it ends a job."""


def reports_errors(command: Callable[P, R]) -> Callable[P, R]:
    """Turn errors that a person can act on into one line and exit code 2, and Ctrl-C or SIGTERM into a hint."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        before = _on_sigterm(_terminate)
        out.quiet = err.quiet = not Launch.current().leads
        try:
            return command(*args, **kwargs)
        except GtgError as error:
            if isinstance(error, ElsewhereError):
                raise typer.Exit(2) from None
            raise _failed(str(error)) from None
        except KeyboardInterrupt:
            err.print(f"interrupted: {_RESUME}")
            raise typer.Exit(130) from None
        except _Terminated:
            err.print(f"terminated: {_RESUME}")
            raise typer.Exit(143) from None
        except BrokenPipeError:
            os._exit(1)
        except OSError as error:  # a full disk, missing permissions, a file where a folder should be
            place = f"{error.filename}: " if error.filename else ""
            raise _failed(f"{place}{error.strerror or error}") from None
        except Exception as error:
            if not plugin_line(error):
                raise  # a fault of this package: its traceback is wanted
            raise _failed(f"in a plug-in: {described(error)}") from None
        finally:
            out.quiet = err.quiet = False
            _on_sigterm(before)

    return wrapped


_RESUME = "what was stored so far is kept; rerun the same command to resume"


def _failed(text: str) -> typer.Exit:
    complain(f"[red]error:[/red] {escape(' '.join(text.split()))}")
    return typer.Exit(2)


def complain(markup: str) -> None:
    """Print a line to stderr, in every process of a launch; all but the first one say which they are."""
    launch, quiet = Launch.current(), err.quiet
    err.quiet = False
    err.print(markup if launch.leads else f"{launch}: {markup}", soft_wrap=True)
    err.quiet = quiet


def _terminate(number: int, frame: FrameType | None) -> None:
    raise _Terminated


def _on_sigterm(handler: Any) -> Any:
    """Set the handler and return the one before; other threads than the main one cannot have any."""
    if threading.current_thread() is not threading.main_thread():
        return None
    return signal.signal(signal.SIGTERM, handler)


def load_plugins(paths: Sequence[Path] | None) -> None:
    """Register the methods of plug-in files."""
    for path in paths or ():
        METHODS.load_plugin(path)


def key_values(pairs: Sequence[str] | None) -> dict[str, str]:
    """KEY=VALUE options as a dictionary. Raises UsageError for anything else, or a key given twice."""
    found: dict[str, str] = {}
    for pair in pairs or ():
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise UsageError(f"--dataset-option {pair!r} is not KEY=VALUE")
        if key in found:
            raise UsageError(f"--dataset-option {key} is given twice")
        found[key] = value
    return found
