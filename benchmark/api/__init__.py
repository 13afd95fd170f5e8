"""The contracts for plug-in authors: types, geometry, registry. Imports no torch."""

from gtg_bench.benchmark.api.errors import DataError, GtgError, SampleError, UsageError
from gtg_bench.benchmark.api.geometry import Frame, boxes_to_mask
from gtg_bench.benchmark.api.registry import METHODS, MethodEntry, load_method, register_method
from gtg_bench.benchmark.api.types import (
    GroundingMap,
    Method,
    MethodCard,
    MethodSettings,
    PhraseSample,
    Query,
    SampleRecord,
)

__all__ = [
    "METHODS",
    "DataError",
    "Frame",
    "GroundingMap",
    "GtgError",
    "Method",
    "MethodCard",
    "MethodEntry",
    "MethodSettings",
    "PhraseSample",
    "Query",
    "SampleError",
    "SampleRecord",
    "UsageError",
    "boxes_to_mask",
    "load_method",
    "register_method",
]
