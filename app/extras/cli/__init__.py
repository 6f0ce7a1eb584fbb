"""Adds the command line, `python -m app`."""
