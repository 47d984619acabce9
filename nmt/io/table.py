"""Print rows as a table with aligned columns: the one table of every report."""

from __future__ import annotations

import shutil
import sys
import textwrap
import unicodedata
from collections.abc import Sequence

LONGEST_NAME = 40
"""columns of a name of the user's in a table"""
LINE = 100
"""columns that a line for people should fit into"""
FEWEST = 60
"""columns that a table needs; in a narrower terminal its lines are wrapped"""


def aligned(rows: Sequence[Sequence[str]], *, left: int) -> str:
    """Return the rows as a table: the first `left` columns aligned to the left, the others to the right."""
    widths = [max(map(columns, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        blanks = [" " * (width - columns(cell)) for cell, width in zip(row, widths, strict=True)]
        cells = [c + blank if i < left else blank + c for i, (c, blank) in enumerate(zip(row, blanks, strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def columns(text: str) -> int:
    """Return the columns that a terminal gives a text: two for each Chinese, Japanese or Korean character."""
    return sum(0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in "WF") for c in text)


def shortened(text: str, most: int = LONGEST_NAME) -> str:
    """Cut a long text to so many columns: its beginning and its end, with an ellipsis between."""
    if columns(text) <= most:
        return text
    keep, end = text, ""
    while columns(end) < most // 4:
        keep, end = keep[:-1], keep[-1] + end
    while columns(keep) + 1 + columns(end) > most:
        keep = keep[:-1]
    return f"{keep}…{end}"


def wrapped(text: str, *, indent: str, width: int = LINE) -> str:
    """Break a long text into lines at blanks; all but the first begin with `indent`."""
    return textwrap.fill(text, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def line_width() -> int:
    """Return the columns of the terminal that standard output goes to; `LINE` where it goes elsewhere."""
    try:
        return max(FEWEST, shutil.get_terminal_size((LINE, 24)).columns) if sys.stdout.isatty() else LINE
    except ValueError:  # closed
        return LINE
