"""Errors that a person can act on. The command line prints their text as one line and exits with code 2."""


class GtgError(Exception):
    """Something the user can mend: the text names the thing that is wrong and the fix."""


class DataError(GtgError):
    """A file of a data set cannot be used: the text names the file, the row where there is one, and the fix."""


class UsageError(GtgError):
    """A name or an option is wrong: the text names it and what would be right."""


class SampleError(GtgError):
    """One sample cannot be grounded or scored; the run records the reason, counts it and goes on."""
