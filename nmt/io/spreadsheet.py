"""Read tables as spreadsheet programs save them: CSV with commas, semicolons or tabs, in UTF-8 or UTF-16.

A table with semicolons or tabs may write numbers with a decimal comma, as Excel does in many countries.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from nmt.errors import UserError, one_line
from nmt.io.user_files import read_text, same_text, shown

_DELIMITERS = (",", ";", "\t", "|")
_COMMA_NUMBER = re.compile(r"[+-]?\d*,\d+(?:[eE][+-]?\d+)?")


@dataclass(frozen=True)
class Table:
    """The rows of a table. Cells have no white space around them and are composed (NFC); blank rows are left out."""

    file: Path
    rows: list[tuple[int, list[str]]]
    """(number of the line in the file, cells)"""
    delimiter: str

    def where(self, line: int) -> str:
        """Name a line for messages: FILE, line N."""
        return f"{self.file}, line {line}"

    @property
    def header(self) -> list[str]:
        """Return the cells of the first row in lower case; empty for an empty table."""
        return [cell.lower() for cell in self.rows[0][1]] if self.rows else []

    def missing(self, columns: Sequence[str]) -> list[str]:
        """List those of the columns that the first row does not name."""
        return [name for name in columns if name not in self.header]

    def records(self, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
        """Yield (line, column -> cell) of every row below the header.

        Args:
            columns: those that every row must have; their names are in lower case.

        Raises:
            UserError: a column is missing or named twice, or a row is shorter than the needed columns.
        """
        header = self.header
        if missing := self.missing(columns):
            raise UserError(
                f"{self.file}: no column {', '.join(missing)}; the first line names them: {','.join(columns)}"
            )
        for name in columns:
            if header.count(name) > 1:
                raise UserError(f"{self.file}: the first line names the column {name} twice")
        last = max(header.index(name) for name in columns)
        for line, cells in self.rows[1:]:
            if len(cells) <= last:
                raise UserError(f"{self.where(line)}: fewer columns than the first line names")
            yield line, dict(zip(header, cells, strict=False))

    def number(self, cell: str, where: str) -> float:
        """Convert a cell to a number; a decimal comma is read where commas do not separate the cells.

        Raises:
            UserError: not a number, with `where`.
        """
        if self.delimiter != "," and _COMMA_NUMBER.fullmatch(cell):
            cell = cell.replace(",", ".")
        try:
            return float(cell)
        except ValueError:
            raise UserError(f"{where} must be a number, but is {shown(cell)}") from None


def read_table(path: Path) -> Table:
    """Read a table whole.

    The delimiter is the one that occurs most often in the first line, or the one that Excel's line `sep=;` names.

    Raises:
        UserError: it cannot be read, has another encoding, or is no CSV.
    """
    text = read_text(path, what="CSV")
    first = text.lstrip("\r\n").split("\n", 1)[0].strip("\r")
    named = re.fullmatch(r"sep=(.)", first, re.IGNORECASE)
    delimiter = named[1] if named else max(_DELIMITERS, key=first.count)
    rows: list[tuple[int, list[str]]] = []
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
        for cells in reader:
            stripped = [same_text(cell.strip()) for cell in cells]
            if any(stripped) and not (named and not rows and "".join(cells).lower().startswith("sep=")):
                rows.append((reader.line_num, stripped))
    except (csv.Error, ValueError) as error:
        raise UserError(f"{path}: not readable CSV ({one_line(error)})") from error
    return Table(path, rows, delimiter)
