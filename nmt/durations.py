"""Durations as people say them."""

from __future__ import annotations


def in_words(seconds: float) -> str:
    """Return a duration as people say it: 0.12 s, 25 s, 4 min, 34 h."""
    if seconds < 10:
        return f"{seconds:.2g} s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h"
