"""Tables with one row per keypoint: image, category, keypoint, x, y and optionally split.

An image has at most one object of a category. Empty x and y mean that the keypoint is not labelled.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nmt.data.readers.base import Entry
from nmt.data.readers.own.image_files import plain_name
from nmt.data.readers.own.source import MakeEntry, Source
from nmt.data.readers.values import as_label
from nmt.errors import UserError, nearest
from nmt.io.spreadsheet import Table, filled, read_table
from nmt.io.user_files import listed, shown

NAME = "a table of keypoints"
COLUMNS = ("image", "category", "keypoint", "x", "y")
MIRROR_FILE, MIRROR_COLUMNS = "mirror.csv", ("category", "left", "right")

Row = tuple[int, dict[str, str]]
"""line in the file, column -> cell"""


def recognises(content: Any) -> bool:
    """Return True for a table whose first line names the columns."""
    return isinstance(content, Table) and not content.missing(COLUMNS)


def entries(source: Source) -> Iterator[MakeEntry]:
    """Group the rows of a table into one object per image and category."""
    table: Table = source.content
    if ignored := [name for name in table.header if name and name not in (*COLUMNS, "split")]:
        source.note(f"columns that are not read: {listed(map(shown, ignored))}")
    objects: dict[tuple[str, str], list[Row]] = {}
    for line, row in table.records(COLUMNS):
        objects.setdefault((plain_name(row["image"]), row["category"]), []).append((line, row))
    return (lambda rows=rows: _entry(source, table, rows) for rows in objects.values())  # type: ignore[misc]


def _entry(source: Source, table: Table, rows: list[Row]) -> Entry:
    line, row = rows[0]
    where = table.where(line)
    split = _split(source, table, rows)
    category = as_label(row["category"], f"{where}: category")
    photo, image = source.image(row["image"], f"{where}: image")
    points: dict[str, tuple[float, float]] = {}
    named: set[str] = set()
    for line, row in rows:
        where = table.where(line)
        keypoint = as_label(row["keypoint"], f"{where}: a keypoint", slashes=True)
        if keypoint in named:
            raise UserError(
                f"{where}: {keypoint} of {row['image']} is labelled twice; a table holds one object of a category per "
                "image: for several, write a JSON list or COCO"
            )
        named.add(keypoint)
        x, y = filled(row["x"]), filled(row["y"])
        if x or y:
            points[keypoint] = table.number(x, f"{where}: x"), table.number(y, f"{where}: y")
    return Entry(f"{category}/{photo}", category, split, photo, image, points)


def _split(source: Source, table: Table, rows: list[Row]) -> str:
    """Read the split of an object, which all of its rows must share. Raises UserError."""
    splits: dict[str, int] = {}
    for line, row in rows:
        splits.setdefault(source.read_split(row.get("split"), table.where(line)), line)
    if len(splits) > 1:
        (_, first), (_, line) = list(splits.items())[:2]
        image, found = rows[0][1]["image"], " and ".join(split or "no split" for split in list(splits)[:2])
        raise UserError(f"{table.where(line)}: {image} has {found} (see line {first}); write one split in all its rows")
    return next(iter(splits))


def read_mirror(file: Path, keypoint_names: Mapping[str, list[str]]) -> dict[str, dict[str, str]]:
    """Read mirror.csv: category -> keypoint name -> its name in the mirrored image. Raises UserError."""
    mirror: dict[str, dict[str, str]] = {}
    table = read_table(file)
    for line, row in table.records(MIRROR_COLUMNS):
        where, category = table.where(line), row["category"]
        if category not in keypoint_names:
            raise UserError(f"{where}: no category {shown(category)}; {nearest(category, keypoint_names)}")
        of_category = mirror.setdefault(category, {})
        for name, other in ((row["left"], row["right"]), (row["right"], row["left"])):
            if name not in keypoint_names[category]:
                raise UserError(f"{where}: no keypoint {shown(name)}; {nearest(name, keypoint_names[category])}")
            if name in of_category:
                raise UserError(f"{where}: {name} of {category} is listed twice")
            of_category[name] = other
    return mirror


def spelling_notes(keypoint_names: Mapping[str, list[str]]) -> list[str]:
    """List the categories, and the keypoints of a category, whose names differ in case or white space alone."""
    alike: dict[tuple[str, str], list[str]] = {}
    groups = {"categories": list(keypoint_names)}
    groups |= {f"keypoints of {category}": names for category, names in keypoint_names.items()}
    for what, names in groups.items():
        for name in names:
            alike.setdefault((what, "".join(name.casefold().split())), []).append(name)
    return [
        f"{what}: {listed(group)} differ in case or spaces alone; are they one?"
        for (what, _), group in alike.items()
        if len(group) > 1
    ]
