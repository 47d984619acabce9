"""TODO docstring of tune.results.layout."""

from __future__ import annotations


def trial_id(number: int) -> str:
    """The short name of a trial, stable over restarts: that of its directory and its row in the table."""
    return f"{number:03d}"
