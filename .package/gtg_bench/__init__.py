"""Benchmark of medical phrase grounding: which method is better, by how much, and can I trust that number?

    import gtg_bench

    method = gtg_bench.load_method("cxrbert-ldm")  # phantom weights, offline
    grounding = method.ground("cxr.png", "small left pleural effusion")  # GroundingMap
    result = gtg_bench.evaluate("cxrbert-ldm", "phantom", limit=40)
    result.table  # metric means with 95 % CIs
    result.to_dataframe()  # one row per sample

`load_dataset` opens a data set, `load_run` a stored run, `score` scores one array against boxes or a mask.
A method is any object with `ground(image, text) -> GroundingMap`; see `gtg_bench.benchmark.api` for the contracts.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gtg_bench.benchmark.api import Frame, GroundingMap, MethodSettings, register_method
    from gtg_bench.benchmark.python_api import evaluate, load_dataset, load_method, load_run, score

__version__ = version("gtg-bench")
__all__ = [
    "Frame",
    "GroundingMap",
    "MethodSettings",
    "__version__",
    "evaluate",
    "load_dataset",
    "load_method",
    "load_run",
    "register_method",
    "score",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: the command line needs none of them."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    contracts = ("Frame", "GroundingMap", "MethodSettings", "register_method")
    return getattr(import_module(f"gtg_bench.benchmark.{'api' if name in contracts else 'python_api'}"), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
