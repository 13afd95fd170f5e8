"""Errors that users can fix. The command line prints their text as one line and exits with code 2."""

import sysconfig
import traceback
from pathlib import Path


class GtgError(Exception):
    """Base of all errors that users can fix: the text names what is wrong and the fix."""


class DataError(GtgError):
    """A file cannot be used: the text names the file, the row if it has rows, and the fix."""


class UsageError(GtgError):
    """A name or an option is wrong: the text names it and what is accepted."""


class SampleError(GtgError):
    """One sample cannot be grounded or scored: the run records the reason, counts it and continues."""


def plugin_line(error: BaseException) -> str:
    """The line of a plug-in in which an error arose, as "FILE, line N"; "" if no plug-in was involved.

    A plug-in's file is one that belongs neither to this package nor to an installed library.
    """
    root = Path(__file__).resolve().parents[2]
    known = [root / name for name in ("benchmark", "methods", "training")]
    known += [Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "purelib", "platlib")]
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename).resolve()
        if not any(map(path.is_relative_to, known)) and not frame.filename.startswith("<"):
            return f"{frame.filename}, line {frame.lineno}"
    return ""


def described(error: BaseException) -> str:
    """An unexpected error in one line: its type, its text, and the plug-in's line if it arose there."""
    text = " ".join(str(error).split())
    line = "" if isinstance(error, SyntaxError) else plugin_line(error)  # a syntax error's text names its own line
    return f"{type(error).__name__}{f': {text}' if text else ''}{f' ({line})' if line else ''}"
