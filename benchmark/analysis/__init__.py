"""Compare runs with runs: differences, controls, priors, subgroups and seeds."""
