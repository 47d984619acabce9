"""DeepLabCut: tables of labelled frames, CollectedData_SCORER.csv.

Their first rows are scorer, individuals (if there are several), bodyparts and coords.
An individual that is labelled in a frame is one object. Body parts of no individual ("single") are an object of their
own. Empty cells and NaN mean that a body part is not labelled.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from nmt.data.readers.base import Entry, Excluded, box_around
from nmt.data.readers.own.source import NO_KEYPOINTS, MakeEntry, Source, check_enough
from nmt.data.readers.values import as_label
from nmt.errors import UserError
from nmt.io.spreadsheet import Table, filled
from nmt.io.user_files import shown, shown_path

NAME = "DeepLabCut"
SINGLE = "single"
"""DeepLabCut's name for the body parts of no individual"""

Columns = dict[str, dict[str, dict[str, int]]]
"""individual (empty: the only one) -> body part -> x or y -> column"""


@dataclass(frozen=True)
class _Layout:
    rows: int
    """number of header rows"""
    index: int
    """number of columns that hold the path of the frame"""
    columns: Columns


def recognises(content: Any) -> bool:
    """Return True for a table whose first rows begin with scorer and bodyparts or individuals."""
    if not isinstance(content, Table) or len(content.rows) < 2:
        return False
    first, second = (cells[0].lower() for _, cells in content.rows[:2])
    return first == "scorer" and second in ("individuals", "bodyparts")


def entries(source: Source) -> Iterator[MakeEntry]:
    """Yield one function per labelled individual of a frame. Raises UserError for a damaged header."""
    table: Table = source.content
    layout = _layout(table)
    for line, cells in table.rows[layout.rows :]:
        there = [who for who, parts in layout.columns.items() if _is_labelled(cells, parts)]
        for who in there:
            yield partial(_entry, source, layout, line, cells, who, several=len(there) > 1)
        if not there:
            yield _without_keypoints


def _without_keypoints() -> Entry:
    raise Excluded(NO_KEYPOINTS)


def _layout(table: Table) -> _Layout:
    """Read the header rows. Raises UserError."""
    header = {cells[0].lower(): cells for _, cells in table.rows[:4]}
    names = [name for name in ("scorer", "individuals", "bodyparts", "coords") if name in header]
    if names[-2:] != ["bodyparts", "coords"]:
        raise UserError(f"{shown_path(table.file)}: DeepLabCut's header needs the rows scorer, bodyparts and coords")
    coords = [cell.lower() for cell in header["coords"]]
    index = next((k for k, cell in enumerate(coords) if cell in ("x", "y")), len(coords))
    columns: Columns = {}
    for k in range(index, len(coords)):
        if coords[k] not in ("x", "y"):
            raise UserError(
                f"{shown_path(table.file)}: column {k + 1} of the row coords must be x or y, but is {shown(coords[k])}"
            )
        who = _cell(header, "individuals", k, table) if "individuals" in header else ""
        of_part = columns.setdefault(who, {}).setdefault(_cell(header, "bodyparts", k, table), {})
        if coords[k] in of_part:
            raise UserError(
                f"{shown_path(table.file)}: column {k + 1} repeats {coords[k]} of a body part; keep one of them"
            )
        of_part[coords[k]] = k
    for parts in columns.values():
        for part, of_part in parts.items():
            if len(of_part) < 2:
                raise UserError(f"{shown_path(table.file)}: the body part {part} needs a column x and a column y")
    return _Layout(len(names), index, columns)


def _cell(header: Mapping[str, Sequence[str]], row: str, k: int, table: Table) -> str:
    """Read a name of a header row. Raises UserError."""
    cells = header[row]
    where = f"{shown_path(table.file)}: column {k + 1} of the row {row}"
    return as_label(cells[k] if k < len(cells) else None, where, slashes=row == "bodyparts")


def _is_labelled(cells: Sequence[str], parts: Mapping[str, Mapping[str, int]]) -> bool:
    return any(_text(cells, k) for part in parts.values() for k in part.values())


def _text(cells: Sequence[str], k: int) -> str:
    """Return a cell, empty for one that is missing or has no value."""
    return filled(cells[k]) if k < len(cells) else ""


def _entry(source: Source, layout: _Layout, line: int, cells: Sequence[str], who: str, *, several: bool) -> Entry:
    table: Table = source.content
    where = table.where(line)
    split = source.read_split(None, where)
    points = {}
    for part, column in layout.columns[who].items():
        texts = [_text(cells, column[axis]) for axis in ("x", "y")]
        if any(texts):
            x, y = (table.number(text, f"{where}: {axis} of {part}") for text, axis in zip(texts, "xy", strict=True))
            if math.isfinite(x) and math.isfinite(y):
                points[part] = (x, y)
    check_enough(points)
    photo, image = source.first_image(_names(source, cells[: layout.index]), f"{where}: image")
    # Body parts of the scene are no animal's, so the two are never paired.
    category = SINGLE if who == SINGLE else source.without_category(NAME)
    if several:
        source.note(f"{NAME}: individuals of one image are cut out at their keypoints")
    box = box_around(points.values()) if several else None
    return Entry(f"{category}/{photo}" + (f"#{who}" if who else ""), category, split, photo, image, points, box)


def _names(source: Source, index: Sequence[str]) -> Sequence[object]:
    """Return the names that a frame may have: with fewer and fewer folders, and beside its table."""
    parts = [part for part in "/".join(index).replace("\\", "/").split("/") if part]
    if not parts:
        return [""]
    beside = source.file.parent.relative_to(source.images.raw) / parts[-1]
    return ["/".join(parts[k:]) for k in range(len(parts))] + [beside.as_posix()]
