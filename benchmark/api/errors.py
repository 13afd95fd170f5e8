"""Errors that users can fix. The command line prints their text as one line and exits with code 2."""


class GtgError(Exception):
    """Base of all errors that users can fix: the text names what is wrong and the fix."""


class DataError(GtgError):
    """A file cannot be used: the text names the file, the row if it has rows, and the fix."""


class UsageError(GtgError):
    """A name or an option is wrong: the text names it and what is accepted."""


class SampleError(GtgError):
    """One sample cannot be grounded or scored: the run records the reason, counts it and continues."""
