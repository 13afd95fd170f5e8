"""Scoring one map against one region: protocols, controls, laterality, and the scores themselves."""
