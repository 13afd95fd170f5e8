"""The processes of one launch: `torchrun`, `accelerate launch`, or anything else that sets RANK and WORLD_SIZE."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from gtg_bench.benchmark.api.errors import DataError, UsageError

_START, _PATIENCE = timedelta(minutes=30), timedelta(days=1)
"""How long the processes wait for each other to start, and to begin a run: it may be in use by another process."""

_lost: list[str] = []
"""Why the processes cannot exchange anything any more."""


class ElsewhereError(DataError):
    """A failure of another process of the launch, which reports it itself."""


@dataclass(frozen=True)
class Launch:
    """This process among those of its launch."""

    index: int = 0
    """Number of this process, from 0."""
    count: int = 1
    """Number of processes on all nodes; 1 without a launcher."""
    local: int = 0
    """Number of this process on its node, from 0."""

    @classmethod
    def current(cls) -> Launch:
        """This process as its launcher's environment variables describe it. Imports no torch."""
        given = [os.environ.get(name, "") for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")]
        index, count, local = (int(value) if value.isdecimal() else 0 for value in given)
        return cls(index, count, local) if count > 1 and index < count else cls()

    @property
    def leads(self) -> bool:
        """Whether this is the first process, the one that prints and writes the results."""
        return self.index == 0

    def __str__(self) -> str:
        return f"process {self.index + 1} of {self.count}"

    def exchange(self, value: Any) -> list[Any]:
        """The values of all processes, in order. Every process calls this equally often.

        Args:
            value: anything that can be pickled.

        Raises:
            UsageError: the launcher's variables are incomplete.
            DataError: a process has ended.
        """
        from accelerate.utils import gather_object

        if _lost:
            raise DataError(_lost[0])
        try:
            _connect()
            return gather_object([value])
        except ValueError as error:
            raise UsageError(f"{error}: start by `torchrun`, or unset WORLD_SIZE ({self.count})") from error
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:200]
            _lost.append(f"a process of this launch has ended ({reason}); rerun the same command to resume")
            raise DataError(_lost[0]) from error


def _connect() -> None:
    """Connect the processes by Accelerate, through their CPUs: few words are exchanged, and GPUs may be shared."""
    from accelerate import PartialState
    from torch import distributed

    if not distributed.is_initialized():
        store, _, _ = next(distributed.rendezvous("env://", timeout=_START))
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")  # processes started again do not meet the dead ones
        PartialState(cpu=True, store=distributed.PrefixStore(f"gtg-bench-{attempt}", store), timeout=_PATIENCE)


def alone() -> bool:
    """Let this process go on as the only one if it is the first of its launch; whether it is."""
    leads = Launch.current().leads
    if leads:
        os.environ.pop("WORLD_SIZE", None)
    return leads


def own_device(device: str) -> str:
    """This process's own GPU if `device` leaves the choice ("cuda"), by its number on the node.

    Args:
        device: a torch device.
    """
    launch = Launch.current()
    if device != "cuda" or launch.count == 1:
        return device
    import torch

    return f"cuda:{launch.local % max(torch.cuda.device_count(), 1)}"
