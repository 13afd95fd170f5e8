"""Names of the sampling modes and token choices that can be run. Imports no torch."""

BUILT = ("text", "cfg", "gt1-cfg", "gt-cfg")
"""The sampling modes of the paper (Appendix A), in its order; the last is the default."""

TOKEN_CHOICES = ("lexical", "all")
