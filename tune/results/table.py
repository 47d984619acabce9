"""Format numbers and tables for reports."""

from __future__ import annotations

from collections.abc import Sequence

from tune.results.statistics import Difference, Mean


def percent(value: Mean | None) -> str:
    """Format a mean as 61.2 ± 0.4 %."""
    if value is None:
        return "-"
    error = f" ± {100 * value.standard_error:.1f}" if value.standard_error is not None else ""
    return f"{100 * value.mean:.1f}{error} %"


def points(value: Difference | None) -> str:
    """Format a difference in percentage points with its interval: +2.8 [+1.9, +3.7]."""
    if value is None:
        return "-"
    return f"{100 * value.mean:+.1f} [{100 * value.low:+.1f}, {100 * value.high:+.1f}]"


def aligned(rows: Sequence[Sequence[str]], *, left: int) -> str:
    """Return the rows as a table: the first `left` columns aligned to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        [c.ljust(w) if i < left else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))]
        for row in rows
    ]
    return "\n".join("  ".join(line).rstrip() for line in lines)
