"""Format means and differences for reports."""

from __future__ import annotations

from tune.results.statistics import Difference, Mean


def percent(value: Mean | None) -> str:
    """Format a mean as 61.2 ± 0.4 %."""
    if value is None:
        return "-"
    error = f" ± {100 * value.standard_error:.1f}" if value.standard_error is not None else ""
    return f"{100 * value.mean:.1f}{error} %"


def with_interval(value: Mean | None) -> str:
    """Format a mean and half of its 95 % interval, in per cent: 61.2 ± 1.7."""
    if value is None:
        return "-"
    return f"{100 * value.mean:.1f}" + (f" ± {100 * value.interval:.1f}" if value.interval is not None else "")


def points(value: Difference | None) -> str:
    """Format a difference in percentage points with its interval: +2.8 [+1.9, +3.7]."""
    if value is None:
        return "-"
    return f"{100 * value.mean:+.1f} [{100 * value.low:+.1f}, {100 * value.high:+.1f}]"
