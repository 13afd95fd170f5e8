"""Names of the sampling modes that can be run. Imports no torch."""

BUILT = ("gt-cfg",)
