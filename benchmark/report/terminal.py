"""The terminal: whatever is printed, text that users supplied cannot control it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from gtg_bench.benchmark.api.text import printable

Count = Callable[[int, int], None]
"""Called with (done, in all)."""

EVERY = 30.0
"""Seconds between two lines about long work when the output is not a terminal."""


class Terminal(Console):
    """A console that escapes control characters in everything that it renders."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """The segments of a renderable, with printable text; rich's own control codes stay."""
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else printable(text), style, control)

    def say(self, text: str, style: str | None = None) -> None:
        """Print plain text without markup, colours or line breaks of its own."""
        self.print(text, style=style, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def counting(console: Terminal, what: str, keep: bool = False, silent: bool = False) -> Iterator[Count]:
    """Show how far long work has come: a bar on a terminal, elsewhere a line every half minute.

    Args:
        console: where it is shown.
        what: the work, plain text.
        keep: leave the bar on the screen when the work is done.
        silent: show nothing.
    """
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    times = (TextColumn("elapsed"), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), *times)
    bar = Progress(*columns, console=console, transient=not keep, disable=silent or not console.is_terminal)
    task, started = bar.add_task(Text(what).markup, total=None), time.monotonic()
    said = started

    def count(done: int, total: int) -> None:
        nonlocal said
        bar.update(task, completed=done, total=total)
        now = time.monotonic()
        if not silent and not console.is_terminal and now - said >= EVERY and done < total:
            said = now
            text = f"{what}: {done} of {total}, {now - started:.0f} s"
            console.say(text)

    with bar:
        yield count
