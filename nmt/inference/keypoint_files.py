"""Read the keypoints of one image from a file: a small table, or the annotations that `--prepare` reads.

A table of one image has the lines name,x,y. A table or JSON file of a whole data set gives its rows or its object of
the image, found by the image's file name. Pixels, as everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from nmt.data.readers.base import Entry, Excluded
from nmt.data.readers.own import coco, json_list
from nmt.data.readers.own.image_files import ImageFiles, name_key
from nmt.data.readers.own.read import FORMATS
from nmt.data.readers.own.source import Format, Source
from nmt.data.readers.values import as_label
from nmt.errors import UserError
from nmt.io.spreadsheet import Table, filled, parse_table
from nmt.io.user_files import decode_text, listed, parse_json, read_bytes, shown, shown_path

EXPECTED = "expected lines name,x,y in pixels"
EXPECTED_JSON = 'expected {"NAME": [x, y], ...} in pixels, or annotations that --prepare reads'
_NAME_COLUMNS = ("keypoint", "name")

Points = dict[str, tuple[float, float]]
Row = tuple[int, str, str, str]
"""line in the file, name, x, y"""


@dataclass(frozen=True)
class Labelled:
    """The keypoints of one image, as a file has them."""

    points: Points
    category: str | None
    """of the object; None where the file does not say"""


def read_labelled(path: Path, *, image: Path) -> Labelled:
    """Read the labelled keypoints of an image, and the category of its object.

    Args:
        path: a table with or without a first line that names its columns, or JSON; the content decides, not the name.
        image: the image file, whose rows or object are taken where the file holds several images.

    Returns:
        Keypoint name, composed (NFC) -> (x, y), pixels; and the category.

    Raises:
        UserError: it cannot be read, or holds no keypoints of the image, or several objects of it.
    """
    return parse_labelled(read_bytes(path), path, image=image)


def parse_labelled(data: bytes, path: Path, *, image: Path) -> Labelled:
    """Read the labelled keypoints of an image from the content of a file, as `read_labelled` does of a file.

    Args:
        data: the content.
        path: what error messages call the file; it need not exist.
        image: the image file, which need not exist either; its name counts.
    """
    text = decode_text(data, path, what="keypoints")
    is_json = text.lstrip()[:1] in ("{", "[")
    content = parse_json(text, path) if is_json else parse_table(text, path)
    kind = next((kind for kind in FORMATS if kind.recognises(content)), None)
    if kind is None and isinstance(content, Table):
        if {"x", "y"} <= set(content.header):
            rows, category = _rows_of(content, image)
            return Labelled(_points(content, rows), category)
        return Labelled(_points(content, [_split(content, line, cells) for line, cells in content.rows]), None)
    if kind is coco and not coco.has_keypoints(content):
        raise UserError(f"{shown_path(path)}: {coco.NO_NAMES}")
    if kind is None:
        alone = _of_image(json_list, path, [_as_object(path, content, image)], image)
        return Labelled(alone.points, None)
    return _of_image(kind, path, content, image)


def _points(table: Table, rows: list[Row]) -> Points:
    """Read rows with one keypoint each; empty x and y mean that it is not labelled."""
    if not rows:
        raise UserError(f"{shown_path(table.file)}: no keypoints in it; {EXPECTED}")
    points: Points = {}
    lines: dict[str, int] = {}
    for line, given, x, y in rows:
        where = table.where(line)
        name = as_label(given, f"{where}: a keypoint", slashes=True)
        if name in lines:
            raise UserError(f"{where}: {shown(name)} is in line {lines[name]} already; keep one of them")
        lines[name] = line
        x, y = filled(x), filled(y)
        if x or y:
            where = f"{where}: {EXPECTED};"
            points[name] = table.number(x, f"{where} x"), table.number(y, f"{where} y")
    return points


def _split(table: Table, line: int, cells: list[str]) -> Row:
    """Split a line name,x,y of a table whose first line is one of them."""
    if table.delimiter == " ":
        cells = " ".join(cells).rsplit(maxsplit=2)  # a name may hold blanks
    if len(cells) < 3 or any(cells[3:]):
        raise UserError(f"{table.where(line)}: {EXPECTED}, but got {shown(table.delimiter.join(cells))}")
    name, x, y = cells[:3]
    return line, name, x, y


def _rows_of(table: Table, image: Path) -> tuple[list[Row], str | None]:
    """Return the rows of an image, below a first line, and their category; all where no column names images."""
    column = next((name for name in _NAME_COLUMNS if name in table.header), None)
    if column is None:
        raise UserError(f"{shown_path(table.file)}: no column name or keypoint; the first line names them: name,x,y")
    several = [name for name in ("image", "category") if name in table.header]
    rows = list(table.records((column, "x", "y", *several)))
    if "image" in several and rows:
        chosen = _choose([row["image"] for _, row in rows], image, table.file)
        rows = [(line, row) for line, row in rows if name_key(row["image"]) == chosen]
    categories = {row["category"] for _, row in rows} if "category" in several else set()
    _refuse_several(categories, image, table.file)
    return [(line, row[column], row["x"], row["y"]) for line, row in rows], next(iter(categories), None)


class _OtherImage(Exception):
    """An object of an image that is not asked for."""


@dataclass(frozen=True)
class _OneImage(Source):
    """Annotations of which the objects of one image count. No image is looked for on the disk."""

    wanted: Path = Path()
    names: list[str] = field(default_factory=list)
    """images that the annotations name, in the order they are met"""

    def image(self, name: object, where: str) -> tuple[str, Path]:
        """Return the name of the image as it stands. Raises _OtherImage unless it has the file name wanted."""
        self.names.append(str(name))
        if PurePosixPath(name_key(str(name))).name != name_key(self.wanted.name):
            raise _OtherImage
        return str(name), self.wanted


def _of_image(kind: Format, path: Path, content: Any, image: Path) -> Labelled:
    """Return the one object of the image, in a format that --prepare reads."""
    source = _OneImage(path, content, ImageFiles(path.parent), wanted=image)
    entries: list[Entry] = []
    for make in kind.entries(source):
        try:
            entries.append(make())
        except (_OtherImage, Excluded):
            continue
    chosen = _choose(source.names, image, path)
    found = [entry for entry in entries if name_key(entry.photo) == chosen]
    if not found:
        raise UserError(f"{shown_path(path)}: no keypoints of {shown(image.name)} are labelled")
    _refuse_several([entry.id for entry in found], image, path)
    return Labelled(dict(found[0].points), found[0].category)


def _as_object(path: Path, content: Any, image: Path) -> dict[str, Any]:
    """Make an object of `json_list` of keypoints that stand alone. Raises UserError for anything else."""
    if isinstance(content, dict):
        given = content.get("keypoints")
        points = given if isinstance(given, dict) else content
        if all(xy is None or isinstance(xy, list) for xy in points.values()):
            return {"image": image.name, "category": "object", "keypoints": points}
    raise UserError(f"{shown_path(path)}: {EXPECTED_JSON}")


def _choose(names: Iterable[str], image: Path, file: Path) -> str:
    """Find the name by which a file of several images names this one; return its key.

    Raises:
        UserError: none has its file name, or several in different folders have.
    """
    known = {name_key(name): name for name in names}
    alike = [key for key in known if PurePosixPath(key).name == name_key(image.name)]
    if not alike:
        others = f"; it names {listed(shown(name) for name in known.values())}" if known else ""
        raise UserError(f"{shown_path(file)}: no keypoints of {shown(image.name)}{others}")
    whole = name_key(str(image.absolute()))
    fitting = [key for key in alike if whole.endswith(f"/{key}")] if len(alike) > 1 else alike
    if not fitting:
        found = listed(shown(known[key]) for key in alike)
        raise UserError(f"{shown_path(file)}: {shown(image.name)} may be {found}; give the image with its folder")
    return max(fitting, key=len)


def _refuse_several(objects: Iterable[str], image: Path, file: Path) -> None:
    """Raise UserError for more than one object."""
    names = sorted(objects)
    if len(names) > 1:
        raise UserError(
            f"{shown_path(file)}: {shown(image.name)} has {len(names)} objects, {listed(names)}; write the keypoints "
            "of one to a file of its own, with lines name,x,y"
        )
