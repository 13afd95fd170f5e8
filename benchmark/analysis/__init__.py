"""Runs compared with runs: differences, controls, subgroups and seeds."""
