"""A run, made and found again: description, runner, records and stored maps."""
