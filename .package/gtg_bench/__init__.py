"""Benchmark of medical phrase grounding: which method is better, by how much, and can I trust that number?"""

from importlib.metadata import version

__version__ = version("gtg-bench")
