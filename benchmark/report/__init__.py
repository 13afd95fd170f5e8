"""Leaderboards and tables, of measured and published values, for the terminal and as files; figures of maps; a page."""
