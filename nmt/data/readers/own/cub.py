"""CUB-200-2011 and sets of its layout: a folder of text files, `parts/part_locs.txt` among them.

Classes are the categories. Parts that are not visible are not labelled. Birds are cut out at their bounding box, where
`bounding_boxes.txt` has one, enlarged to hold all labelled parts unless `clip_to_box`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nmt.data.readers.base import Entry, Excluded, box_around, checked_box
from nmt.data.readers.own.source import UNLABELLED, MakeEntry, Source, check_enough
from nmt.data.readers.values import as_label, as_number
from nmt.errors import UserError
from nmt.io.user_files import is_file, read_text, shown, shown_path

NAME = "CUB-200 parts"
FILE = "parts/part_locs.txt"
_SPLITS = {"1": "train", "0": "test"}


@dataclass(frozen=True)
class Folder:
    """The folder of such a set."""

    root: Path


def recognises(content: Any) -> bool:
    """Return True for a folder with a file of part locations."""
    return isinstance(content, Folder)


def entries(source: Source) -> Iterator[MakeEntry]:
    """Yield one function per image. Raises UserError for a file that is missing or damaged."""
    root: Path = source.content.root
    parts = _read(source, root / "parts" / "parts.txt")
    images, classes = _read(source, root / "images.txt"), _read(source, root / "classes.txt")
    of_image = _read(source, root / "image_class_labels.txt")
    boxes, splits = (
        _read(source, root / name, optional=True) for name in ("bounding_boxes.txt", "train_test_split.txt")
    )
    locations = _locations(root / FILE)

    def make(key: str) -> Entry:
        where = f"{shown_path(root / 'images.txt')}: image {shown(key)}"
        given = splits.get(key)
        if given is not None and given not in _SPLITS:
            raise UserError(f"{where}: train_test_split.txt must say 1 or 0, but says {shown(given)}")
        split = source.read_split(None if given is None else _SPLITS[given], where)
        category = as_label(classes.get(of_image.get(key, "")), f"{where}: its class")
        points = _points(locations.get(key, []), parts, root / FILE)
        if not points:
            raise Excluded(UNLABELLED)
        check_enough(points)
        photo, image = source.image(images[key], where)
        object_box = None
        if key in boxes:
            sides = [as_number(side, f"{where}: its bounding box") for side in boxes[key].split()]
            if len(sides) != 4:
                raise UserError(f"{where}: its bounding box needs x, y, width and height, but is {shown(boxes[key])}")
            object_box = checked_box(*sides)
        whole = source.clip_to_box or object_box is None
        box = object_box if whole else box_around(points.values(), object_box)
        return Entry(f"{category}/{photo}", category, split, photo, image, points, box, object_box=object_box)

    return (lambda key=key: make(key) for key in images)  # type: ignore[misc]


def _read(source: Source, file: Path, *, optional: bool = False) -> dict[str, str]:
    """Read a file of lines "ID VALUE", where the value may have blanks: id -> value.

    Raises:
        UserError: it cannot be read, a line has no value, or an id is given twice.
    """
    if optional and not is_file(file):
        return {}
    found: dict[str, str] = {}
    for number, line in enumerate(read_text(file).splitlines(), 1):
        key, _, value = line.strip().partition(" ")
        if not key:
            continue
        if not value:
            raise UserError(f"{shown_path(file)}, line {number}: must be an id and a value, but is {shown(line)}")
        if key in found:
            raise UserError(f"{shown_path(file)}, line {number}: the id {shown(key)} is given twice")
        found[key] = value.strip()
    source.files.append(file)
    return found


def _locations(file: Path) -> dict[str, list[tuple[int, list[str]]]]:
    """Read image id -> (line, [part id, x, y, visible]). Raises UserError."""
    found: dict[str, list[tuple[int, list[str]]]] = {}
    for number, line in enumerate(read_text(file).splitlines(), 1):
        cells = line.split()
        if cells and len(cells) != 5:
            raise UserError(f"{shown_path(file)}, line {number}: must be IMAGE PART X Y VISIBLE, but is {shown(line)}")
        if cells:
            found.setdefault(cells[0], []).append((number, cells[1:]))
    return found


def _points(rows: list[tuple[int, list[str]]], parts: dict[str, str], file: Path) -> dict[str, tuple[float, float]]:
    """Read the visible parts of an image. Raises UserError."""
    points: dict[str, tuple[float, float]] = {}
    for line, (part, x, y, visible) in rows:
        where = f"{shown_path(file)}, line {line}"
        name = as_label(parts.get(part), f"{where}: part {shown(part)}", slashes=True)
        if visible == "0":
            continue
        if name in points:
            raise UserError(f"{where}: {name} is given twice for one image")
        points[name] = as_number(x, f"{where}: x"), as_number(y, f"{where}: y")
    return points
