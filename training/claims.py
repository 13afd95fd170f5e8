"""Who is making which items of a cache: claims in files with a heartbeat, taken over when their process is dead."""

from __future__ import annotations

import json
import os
import re
import secrets
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any

from filelock import FileLock

from gtg_bench.benchmark.paths import atomic

STALE = 180.0
"""Seconds without a heartbeat after which a process is taken for dead."""

_BEAT = 15.0
"""Seconds between two heartbeats."""


class Claims:
    """The claims of a folder, seen by one process that may make one of its own at a time.

    Args:
        folder: made if it is not there.
        stale: seconds without a heartbeat after which a claim is taken over. A process of this machine that is gone
            is noticed at once.

    Attributes:
        writer: this process's name, which no other has.
    """

    def __init__(self, folder: Path, stale: float = STALE) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.stale = stale
        host = re.sub(r"[^A-Za-z0-9]+", "-", socket.gethostname())[:40]
        self.writer = f"{host}-{os.getpid()}-{secrets.token_hex(4)}"
        self._own = folder / f"{self.writer}.json"

    def take(self, choose: Callable[[set[int]], list[int]]) -> list[int]:
        """Claim items; to be followed by `held`.

        Args:
            choose: gets the items that others are making, and returns those to claim; nobody else claims meanwhile.

        Returns:
            what was chosen.
        """
        with FileLock(self.folder / ".lock"):
            chosen = choose({number for claim in self.live().values() for number in claim})
            if chosen:
                with atomic(self._own) as part:
                    part.write_text(json.dumps({"host": _machine(), "pid": os.getpid(), "numbers": chosen}))
                os.utime(self._own)
        return chosen

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep the claim alive while the block makes its items; afterwards it is given up."""
        done = Event()
        beat = Thread(target=self._beat, args=(done,), daemon=True, name="heartbeat")
        beat.start()
        try:
            yield
        finally:
            done.set()
            beat.join()
            self._own.unlink(missing_ok=True)

    def live(self) -> dict[str, list[int]]:
        """Writer -> the items it is making now. Claims of dead processes are removed; call it under the lock."""
        now, found = self.now(), {}
        for file in self.folder.glob("*.json"):
            try:
                age, claim = now - file.stat().st_mtime, json.loads(file.read_text())
                if age > self.stale or _is_dead(claim):
                    file.unlink(missing_ok=True)
                else:
                    found[file.stem] = list(claim["numbers"])
            except FileNotFoundError:
                continue  # given up since
            except (ValueError, KeyError, TypeError):
                file.unlink(missing_ok=True)  # its machine lost power
        return found

    def now(self) -> float:
        """The time on the clock of the disk, which several machines may share."""
        clock = self.folder / ".clock"
        clock.touch()
        return clock.stat().st_mtime

    def _beat(self, done: Event) -> None:
        while not done.wait(min(_BEAT, self.stale / 4)):
            try:
                os.utime(self._own)
            except FileNotFoundError:
                return  # taken over: others thought that this process was dead


def _is_dead(claim: dict[str, Any]) -> bool:
    """Whether a claim's process was one of this machine and is gone."""
    if claim["host"] != _machine():
        return False
    try:
        os.kill(claim["pid"], 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def _machine() -> str:
    """What processes have in common that can see each other's numbers: machine, its last start, its container."""
    facts = [socket.gethostname()]
    for read in (lambda: Path("/proc/sys/kernel/random/boot_id").read_text(), lambda: os.readlink("/proc/self/ns/pid")):
        try:
            facts.append(read().strip())
        except OSError:
            facts.append("")
    return " ".join(facts)
