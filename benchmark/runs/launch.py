"""The processes of one launch: `torchrun`, `accelerate launch`, or anything else that sets RANK and WORLD_SIZE."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from gtg_bench.benchmark.api.errors import DataError

_PATIENCE = timedelta(days=1)
"""How long the processes wait for each other to begin a run; the first one may be waiting for a run to be free."""

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
            DataError: a process has ended.
        """
        from accelerate import PartialState
        from accelerate.utils import gather_object

        if _lost:
            raise DataError(_lost[0])
        try:
            PartialState(cpu=True, timeout=_PATIENCE)  # on CPUs: a few words are exchanged, and GPUs may be shared
            return gather_object([value])
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:200]
            _lost.append(f"a process of this launch has ended ({reason}); rerun the same command to resume")
            raise DataError(_lost[0]) from error


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
