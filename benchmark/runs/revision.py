"""The git revision of this program."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path


@cache
def git_revision() -> str | None:
    """The commit of the checkout that contains this package, with "-dirty" if files differ; None outside a checkout."""

    def git(*arguments: str) -> str:
        folder = Path(__file__).resolve().parent
        run = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True, timeout=10)
        return run.stdout.strip()

    try:
        commit = git("rev-parse", "HEAD")
        tracked = git("ls-files", "--error-unmatch", Path(__file__).name)
        changed = git("status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return None
    return None if not tracked else f"{commit}-dirty" if changed else commit
