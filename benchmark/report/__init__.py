"""Comparison tables: what was published and what was measured here, as data, and as text in four forms."""
