"""An empty Hugging Face cache and no network for every test in this folder, and repositories for that cache."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import constants

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """HF_HOME, for this process (huggingface_hub has already read its variables) and for its children."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "TRANSFORMERS_OFFLINE", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf" / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("GTG_BENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "hf"


@pytest.fixture
def into_cache(home: Path) -> Callable[..., Path]:
    """Write a repository as huggingface_hub stores it: blobs, links to them, and a reference to the commit."""

    def write(repo: str, files: dict[str, bytes], reference: str = "main", commit: str = COMMIT) -> Path:
        folder = home / "hub" / f"models--{repo.replace('/', '--')}"
        snapshot = folder / "snapshots" / commit
        snapshot.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            blob, link = folder / "blobs" / hashlib.sha256(content).hexdigest(), snapshot / name
            for path in (blob, link):
                path.parent.mkdir(parents=True, exist_ok=True)
            blob.write_bytes(content)
            link.symlink_to(os.path.relpath(blob, link.parent))
        (folder / "refs").mkdir(exist_ok=True)
        (folder / "refs" / reference).write_text(commit)
        return snapshot

    return write
