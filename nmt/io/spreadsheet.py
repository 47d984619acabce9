"""Read tables as spreadsheet programs save them: CSV with commas, semicolons or tabs, in UTF-8 or UTF-16.

A table whose cells are not separated by commas may write numbers with a decimal comma, as Excel does in many countries.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from nmt.errors import UserError, one_line
from nmt.io.user_files import read_text, same_text, shown, shown_path

_DELIMITERS = ("\t", ";", "|", ",")
"""first those that never stand in a number: in `beak;10,5;20,5` as many commas as semicolons"""
_SEP_LINE = re.compile(r'"?sep=([,;|:\t ])"?', re.IGNORECASE)
_QUOTED = re.compile(r'"[^"]*"')
_END = "\x1e"
"""a last line of our own; a quote that is never closed swallows it"""
_UNFILLED = {"na", "n/a", "nan", "null", "none"}
"""what R, pandas and other programs write for a cell without a value"""
_COMMA_NUMBER = re.compile(r"[+-]?\d*,\d+(?:[eE][+-]?\d+)?")


@dataclass(frozen=True)
class Table:
    """The rows of a table. Cells have no white space around them and are composed (NFC); blank rows are left out."""

    file: Path
    rows: list[tuple[int, list[str]]]
    """(number of the line in the file where the row begins, cells)"""
    delimiter: str

    def where(self, line: int) -> str:
        """Name a line for messages: FILE, line N."""
        return f"{shown_path(self.file)}, line {line}"

    @property
    def header(self) -> list[str]:
        """Return the cells of the first row in lower case; empty for an empty table."""
        return [cell.lower() for cell in self.rows[0][1]] if self.rows else []

    def missing(self, columns: Sequence[str]) -> list[str]:
        """List those of the columns that the first row does not name."""
        return [name for name in columns if name not in self.header]

    def why_missing(self, columns: Sequence[str]) -> str:
        """Say which of the columns are missing, and what the first row holds instead."""
        there = f", but holds {shown(', '.join(self.rows[0][1]))}" if self.rows else ""
        return f"no column {', '.join(self.missing(columns))}; the first line names them: {','.join(columns)}{there}"

    def records(self, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
        """Yield (line, column -> cell) of every row below the header.

        Args:
            columns: those that every row must have; their names are in lower case.

        Raises:
            UserError: a column is missing or named twice, or a row is shorter than the needed columns.
        """
        header = self.header
        if self.missing(columns):
            raise UserError(f"{shown_path(self.file)}: {self.why_missing(columns)}")
        for name in columns:
            if header.count(name) > 1:
                raise UserError(f"{shown_path(self.file)}: the first line names the column {name} twice")
        last = max(header.index(name) for name in columns)
        for line, cells in self.rows[1:]:
            if len(cells) <= last:
                lacking = shown(header[len(cells)])
                raise UserError(f"{self.where(line)}: fewer columns than the first line names; it lacks {lacking}")
            yield line, dict(zip(header, cells, strict=False))

    def number(self, cell: str, where: str) -> float:
        """Convert a cell to a number; a decimal comma is read where commas do not separate the cells.

        Raises:
            UserError: not a number, with `where`.
        """
        if self.delimiter != "," and _COMMA_NUMBER.fullmatch(cell):
            cell = cell.replace(",", ".")
        try:
            if "_" in cell:  # Python reads 1_0 as 10
                raise ValueError
            return float(cell)
        except ValueError:
            remedy = "; write it with a decimal point, without separators of thousands" if "," in cell else ""
            raise UserError(f"{where} must be a number, but is {shown(cell)}{remedy}") from None


def read_table(path: Path) -> Table:
    """Read a table whole. Raises UserError if it cannot be read, or as `parse_table` does."""
    return parse_table(read_text(path, what="CSV"), path)


def parse_table(text: str, path: Path) -> Table:
    """Split the text of a table, which messages call `path`.

    The delimiter is the one that Excel's line `sep=;` names, or the one that occurs most often in the first line.
    Blanks separate cells where the first line has no other delimiter.

    Raises:
        UserError: it is no CSV.
    """
    first = re.split(r"[\r\n]", text.lstrip("\r\n"), maxsplit=1)[0]
    if named := _SEP_LINE.fullmatch(first):
        text = text.replace(first, "", 1)  # an empty line stays, so that line numbers do not change
    reader = csv.reader(
        io.StringIO(f"{text}\n{_END}", newline=""),
        delimiter=named[1] if named else _delimiter(first),
        skipinitialspace=True,
    )
    rows: list[tuple[int, list[str]]] = []
    line, last = 1, 0
    cells: list[str] = []
    try:
        for cells in reader:
            line, last = last + 1, reader.line_num  # a quoted cell may hold ends of lines
            stripped = [same_text(cell.strip()) for cell in cells]
            if any(stripped):
                rows.append((line, stripped))
    except csv.Error as error:
        raise UserError(f"{shown_path(path)}, line {last + 1}: not readable CSV ({one_line(error)})") from error
    if cells != [_END]:
        raise UserError(f'{shown_path(path)}, line {line}: a quote (") opens and never closes')
    return Table(path, rows, named[1] if named else _delimiter(first))


def filled(cell: str) -> str:
    """Return a cell, or an empty text where a program wrote that it has no value."""
    return "" if cell.lower() in _UNFILLED else cell


def _delimiter(first: str) -> str:
    """Find the delimiter of a table by its first line."""
    bare = _QUOTED.sub("", first)
    found = max(_DELIMITERS, key=bare.count)
    if found in bare:
        return found
    return " " if " " in bare.strip() else ","
