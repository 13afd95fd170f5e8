"""Weights: the files a model is loaded from, where they are, and what identifies them. Imports no torch."""

from gtg_bench.methods.weights.find import Weights, find_weights
from gtg_bench.methods.weights.plan import Part, WeightsPlan

__all__ = ["Part", "Weights", "WeightsPlan", "find_weights"]
