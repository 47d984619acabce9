"""CVAT for images 1.1: annotations.xml with skeletons, or with points and boxes of the same group.

A skeleton is one object; its label is the category, and its points that are "outside" are not labelled.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any
from xml.etree.ElementTree import Element

from nmt.data.readers.own import shapes
from nmt.data.readers.own.shapes import Picture, Shape, Tool
from nmt.data.readers.own.source import MakeEntry, Source
from nmt.data.readers.values import as_number, as_size
from nmt.errors import UserError
from nmt.io.user_files import shown

NAME = "CVAT for images"
_TOOL = Tool(NAME, "draw skeletons, or group the shapes of each object")
_BOX = ("xtl", "ytl", "xbr", "ybr")


def recognises(content: Any) -> bool:
    """Return True for XML of CVAT with images."""
    return isinstance(content, Element) and content.tag == "annotations" and content.find("image") is not None


def entries(source: Source) -> Iterator[MakeEntry]:
    """Yield one function per object of an image."""
    for image in source.content.iterfind("image"):
        yield from shapes.entries(source, _TOOL, partial(_picture, source, image))


def _picture(source: Source, image: Element) -> Picture:
    where = f"{source.shown_file}: image {shown(image.get('name'))}"
    found: list[Shape] = []
    for k, item in enumerate(image):
        at = f"{where}: {item.tag} {k}"
        if item.tag == "skeleton":
            found += _skeleton(item, at, f"skeleton {k}")
        elif (shape := _shape(item, at)) is not None:
            found.append(shape)
    subset = image.get("subset", "")
    size = as_size(image.get("width"), image.get("height"))
    name = image.get("name")
    # CVAT saves images as images/SUBSET/NAME; two subsets may hold one name.
    names = [f"{subset}/{name}", name] if subset and name else [name]
    return Picture(where, names, found, size, None if subset.lower() == "default" else subset)


def _skeleton(item: Element, where: str, group: str) -> list[Shape]:
    """Read the points of a skeleton, and its label. Raises UserError."""
    inside = [point for point in item.iterfind("points") if point.get("outside") != "1"]
    points = [Shape(point.get("label"), _one(point, where), True, group) for point in inside]
    return [*points, Shape(item.get("label"), [], False, group)]


def _shape(item: Element, where: str) -> Shape | None:
    """Read a point, a box or a polygon; None for other shapes. Raises UserError."""
    group = item.get("group_id", "0")
    group = "" if group == "0" else group
    if item.tag == "points":
        return Shape(item.get("label"), _one(item, where), True, group)
    if item.tag == "box":
        x0, y0, x1, y1 = (as_number(item.get(side), f"{where}: {side}") for side in _BOX)
        return Shape(item.get("label"), [(x0, y0), (x1, y1)], False, group)
    return Shape(item.get("label"), _corners(item, where), False, group) if item.tag == "polygon" else None


def _one(item: Element, where: str) -> list[tuple[float, float]]:
    """Read a shape of one point. Raises UserError."""
    corners = _corners(item, where)
    if len(corners) != 1:
        raise UserError(
            f"{where}: {len(corners)} points share the label {shown(item.get('label'))}; use a skeleton, or a label "
            "for each point"
        )
    return corners


def _corners(item: Element, where: str) -> list[tuple[float, float]]:
    """Read "x,y;x,y". Raises UserError."""
    pairs = [pair.split(",") for pair in item.get("points", "").split(";")]
    if not all(len(pair) == 2 for pair in pairs):
        raise UserError(f"{where}: points must be pairs x,y, but is {shown(item.get('points'))}")
    return [(as_number(x, f"{where}: x"), as_number(y, f"{where}: y")) for x, y in pairs]
