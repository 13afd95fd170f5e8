"""Files outside the repository: complete or not at all, with the umask's modes, and errors that name the place."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from gtg_bench.benchmark.api.errors import DataError
from gtg_bench.benchmark.paths import PlaceError, atomic, cache_dir, check_writable, locked, remove_parts


def test_atomic_replaces_completely_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.txt"
    for text in ("one", "two"):
        with atomic(path) as part, atomic(path) as other:
            assert part != other
            other.touch()
            part.write_text(text)
        assert path.read_text() == text
    with pytest.raises(TypeError), atomic(path) as part:
        part.write_text(3)  # type: ignore[arg-type]
    assert (path.read_text(), os.listdir(path.parent)) == ("two", ["a.txt"])


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_modes_are_as_the_umask_says(umask: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        with atomic(tmp_path / "a" / "b.txt") as part:
            part.write_text("x")
            part.chmod(0o600)  # as some libraries do
    finally:
        os.umask(before)
    assert (tmp_path / "a" / "b.txt").stat().st_mode & 0o777 == 0o666 & ~umask


@pytest.mark.parametrize(("folder", "lock"), [(0o755, 0o644), (0o2775, 0o664), (0o777, 0o666), (0o700, 0o600)])
def test_who_may_write_a_folder_may_lock_it(folder: int, lock: int, tmp_path: Path) -> None:
    tmp_path.chmod(folder)
    before = os.umask(0o077)
    try:
        with locked(tmp_path / ".lock"):
            assert (tmp_path / ".lock").stat().st_mode & 0o777 == lock
    finally:
        os.umask(before)


def full(*_: object) -> None:
    raise OSError(28, "No space left on device")


def parent_is_a_file(path: Path) -> Path:
    path.touch()
    return path / "x.txt"


PLACES: dict[str, tuple[Callable[[Path], Path], str]] = {
    "folder": (lambda path: path.mkdir() or path, "folder"),
    "pipe": (lambda path: os.mkfifo(path) or path, "regular file"),
    "device": (lambda path: Path("/dev/full"), "regular file"),
    "parent is a file": (parent_is_a_file, "File exists"),
    "long name": (lambda path: path / ("x" * 300), "File name too long"),
}


@pytest.mark.parametrize("case", PLACES)
def test_a_place_that_cannot_be_written_is_named(case: str, tmp_path: Path) -> None:
    make, reason = PLACES[case]
    path = make(tmp_path / "x.txt")
    with pytest.raises(PlaceError, match=reason) as caught:
        check_writable(path)
    assert str(path) in str(caught.value)
    assert isinstance(caught.value, DataError)
    with pytest.raises(PlaceError), atomic(path) as part:
        part.write_text("x")


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fsync", full)
    with (
        pytest.raises(PlaceError, match=r"a\.txt cannot be written \(No space left"),
        atomic(tmp_path / "a.txt") as part,
    ):
        part.write_text("x")
    assert not os.listdir(tmp_path)


def test_only_parts_are_removed(tmp_path: Path) -> None:
    with atomic(tmp_path / "a" / "b.json") as part:
        part.touch()
        killed = part.with_name(f".{'0' * 32}.part.json")
        killed.touch()
        for name in (".hidden.json", ".part.json", ".x.part.json", "c.part.json"):
            (part.parent / name).touch()
    remove_parts(tmp_path)
    assert sorted(os.listdir(part.parent)) == [".hidden.json", ".part.json", ".x.part.json", "b.json", "c.part.json"]


def test_cache_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GTG_BENCH_CACHE", str(tmp_path / "mine"))
    assert cache_dir() == tmp_path / "mine"
    monkeypatch.delenv("GTG_BENCH_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_dir() == tmp_path / "gtg-bench"
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")
    with pytest.raises(PlaceError, match=r"/dev/null/gtg-bench.*GTG_BENCH_CACHE"):
        cache_dir()
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", lambda uid: (_ for _ in ()).throw(KeyError(uid)))
    with pytest.raises(PlaceError, match="GTG_BENCH_CACHE"):
        cache_dir()
