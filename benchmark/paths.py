"""Where files outside the repository are kept, and how they are written: completely, or not at all."""

from __future__ import annotations

import fcntl
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from filelock import FileLock, Timeout

from gtg_bench.benchmark.api.errors import DataError

_PART = re.compile(r"\.[0-9a-f]{32}\.part(\..*)?")


class PlaceError(DataError, OSError):
    """A file or folder cannot be written: the text names the place, the reason and the fix."""


def cache_dir() -> Path:
    """GTG_BENCH_CACHE, else gtg-bench in the user's cache folder; created if missing.

    Raises:
        PlaceError: it cannot be created, or the user has no home folder.
    """
    home: str | Path = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    folder = Path(os.environ.get("GTG_BENCH_CACHE") or Path(home, "gtg-bench"))
    try:
        folder = folder.expanduser()
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or error
        fix = "set GTG_BENCH_CACHE to a folder that you can write to"
        raise PlaceError(f"cache folder {folder} cannot be created ({reason}); {fix}") from error
    return folder


@contextmanager
def atomic(path: Path, sync: bool = True) -> Iterator[Path]:
    """A temporary path next to `path`, renamed to it when the block ends without an exception.

    Temporary names are unique on every machine that shares the folder; `remove_parts` removes those of killed writers.

    Args:
        path: the file to write; its folder is created if needed.
        sync: wait until the file is on the disk, so that it survives a power failure.

    Raises:
        PlaceError: the file cannot be written: `path` is a folder or a device, the disk is full, permissions.
    """
    with _part_of(path) as part:
        yield part
        as_umask(part)
        if sync:
            _sync(part)
        os.replace(part, path)
        if sync:
            with suppress(OSError):  # not every system can sync a folder
                _sync(path.parent)


def write_text(path: Path, text: str) -> None:
    """Write a file of UTF-8 text at once; see `atomic`. Raises PlaceError if it cannot be written."""
    with atomic(path) as part:
        part.write_text(text, encoding="utf-8")


@contextmanager
def locked(path: Path, busy: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold a lock file, which whoever may write to its folder can lock, too, whatever the umask of the first user.

    Args:
        path: the lock file; its folder exists. It is released when its process ends, however that happens.
        busy: called once if another process holds it, before waiting.
    """
    folder = path.parent.stat()
    lock = FileLock(path, mode=0o600 | folder.st_mode & 0o666)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        busy()
        lock.acquire()
    with lock:
        lock.release()  # the block holds it now
        with suppress(OSError):  # another user's
            os.chown(path, -1, folder.st_gid)
        yield


@contextmanager
def flocked(path: Path, busy: Callable[[], None] = lambda: None, shared: bool = False) -> Iterator[Callable[[], None]]:
    """Hold a lock on a file itself; yields a function that releases it early. It excludes `locked`, too.

    Args:
        path: the file; it is created if needed, also its folder.
        busy: called once if another process holds it, before waiting.
        shared: other processes may share the lock.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600 | path.parent.stat().st_mode & 0o666)
    held = [descriptor]

    def release() -> None:
        while held:
            os.close(held.pop())

    try:
        while not _flock(descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX):
            busy()
            busy = lambda: None  # noqa: E731
            time.sleep(0.1)
        yield release
    finally:
        release()


def is_flocked(path: Path) -> bool:
    """Whether another process holds a lock on a file; False if it does not exist."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        return not _flock(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def _flock(descriptor: int, kind: int) -> bool:
    """Lock an open file if that is possible now."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def as_umask(path: Path) -> None:
    """Give a new file, or all files in a new folder, the mode that the umask says: safetensors makes them private."""
    os.umask(umask := os.umask(0))
    for file in [path, *path.rglob("*")] if path.is_dir() else [path]:
        if file.is_file():
            file.chmod(0o666 & ~umask)


def check_writable(path: Path) -> None:
    """Raise PlaceError if a file cannot be written to `path`, to be called before work is done for it."""
    with _part_of(path) as part:
        part.write_bytes(b"x")


def remove_parts(folder: Path) -> None:
    """Remove the temporary files of killed writers below a folder that no other process writes to."""
    for path in folder.rglob(".*.part*"):
        if _PART.fullmatch(path.name):
            path.unlink(missing_ok=True)


@contextmanager
def _part_of(path: Path) -> Iterator[Path]:
    """A unique temporary path, removed at the end; an OSError becomes a PlaceError that names `path`."""
    part = path.with_name(f".{uuid4().hex}.part{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not path.is_file():
            raise OSError("it is a folder" if path.is_dir() else "it is not a regular file")
        try:
            yield part
        finally:
            with suppress(OSError):
                part.unlink(missing_ok=True)
    except PlaceError:
        raise
    except OSError as error:
        other = f": {error.filename}" if error.filename and str(error.filename) != str(part) else ""
        fix = "check permissions and free disk space, or name another place"
        raise PlaceError(f"{path} cannot be written ({error.strerror or error}{other}); {fix}") from error


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
