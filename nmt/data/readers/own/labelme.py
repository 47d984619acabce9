"""LabelMe: one JSON file per image, with points, and rectangles or polygons of the same group_id.

The image is looked for at `imagePath`, seen from the JSON file, and then by its mere name. `imageData` is not read.
"""

from __future__ import annotations

import math
import posixpath
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from nmt.data.readers.own import shapes
from nmt.data.readers.own.shapes import Picture, Shape, Tool
from nmt.data.readers.own.source import MakeEntry, Source
from nmt.data.readers.values import as_dict, as_list, as_point, as_size
from nmt.errors import UserError
from nmt.io.user_files import shown

NAME = "LabelMe"
_TOOL = Tool(NAME, "give the shapes of each object a group_id of their own")
_KEYS = {"imagePath", "imageHeight", "imageWidth", "flags"}
_AREAS = ("rectangle", "polygon", "rotation", "mask")


def recognises(content: Any) -> bool:
    """Return True for an object with shapes and another key of LabelMe, even where one is lost."""
    return isinstance(content, dict) and "shapes" in content and bool(_KEYS & content.keys())


def entries(source: Source) -> Iterator[MakeEntry]:
    """Yield one function per group of shapes."""
    return shapes.entries(source, _TOOL, lambda: _picture(source))


def _picture(source: Source) -> Picture:
    content, where = source.content, source.shown_file
    found = (_shape(item, f"{where}: shapes[{k}]") for k, item in enumerate(_shapes(content, where)))
    drawn = [shape for shape in found if shape is not None]
    size = as_size(content.get("imageWidth"), content.get("imageHeight"))
    return Picture(where, _names(source, content.get("imagePath")), drawn, size)


def _shapes(content: dict[str, Any], where: str) -> list[Any]:
    return as_list(content["shapes"], f"{where}: shapes")


def _shape(value: object, where: str) -> Shape | None:
    """Read a point, or a shape with an area; None for lines. Raises UserError."""
    item = as_dict(value, where)
    kind, group = item.get("shape_type", "polygon"), _group(item.get("group_id"), where)
    if kind not in ("point", "circle", *_AREAS):
        return None
    points = [as_point(xy, f"{where}: points") for xy in as_list(item.get("points"), f"{where}: points")]
    if kind == "point" and len(points) != 1:
        raise UserError(f"{where}: a point must have one pair x, y, but has {len(points)}")
    if not points:
        raise UserError(f"{where}: points must hold at least one pair x, y")
    if kind == "circle" and len(points) == 2:
        (x, y), edge = points[0], math.dist(*points)
        points = [(x - edge, y - edge), (x + edge, y + edge)]
    return Shape(item.get("label"), points, kind == "point", group)


def _group(value: object, where: str) -> str:
    """Read a group's number or name; an empty text where there is none. Raises UserError."""
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, int | float | str) or not str(value).isprintable():
        raise UserError(f"{where}: group_id must be a number, but is {shown(value)}")
    return str(value)


def _names(source: Source, value: object) -> list[object]:
    """Return the names that an image may have: its path below the raw folder, and its mere name."""
    if not isinstance(value, str):
        return [value]
    path = value.replace("\\", "/")
    folder = source.file.parent.relative_to(source.images.raw).as_posix()
    below = posixpath.normpath(posixpath.join(folder, path))
    inside = not below.startswith(("/", "../")) and below != ".."
    return [*([below] if inside else []), PurePosixPath(path).name or value]
