"""Objects that are drawn shape by shape: points are keypoints, boxes of the same group give category and extent.

LabelMe, Label Studio and CVAT share this model. An image without groups holds one object. An object with a box is cut
out there, enlarged to hold all its keypoints unless `clip_to_box`. An object without one is the whole image if it is
alone in it, or else the box of its keypoints.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NoReturn

from nmt.data.readers.base import Box, Entry, Excluded, box_around, checked_box
from nmt.data.readers.own.source import NO_KEYPOINTS, UNLABELLED, MakeEntry, Source, check_enough
from nmt.data.readers.values import as_label
from nmt.errors import UserError
from nmt.io.user_files import listed, shown


@dataclass(frozen=True)
class Tool:
    """A tool that draws shapes."""

    name: str
    grouping: str
    """how it tells the objects of an image apart, for messages"""


@dataclass(frozen=True)
class Shape:
    """One shape of an image."""

    label: object
    """name of the keypoint, or of the category; not checked yet"""
    corners: Sequence[tuple[float, float]]
    """(x, y) of the keypoint, or of the corners of the box, pixels; none: a category alone"""
    is_keypoint: bool
    group: str = ""
    """shapes of one group are one object; those without a group are one as well"""


@dataclass(frozen=True)
class Picture:
    """One image with its shapes."""

    where: str
    """file, and which of its images, for messages"""
    names: Sequence[object]
    """names that the image may have, the likeliest first"""
    shapes: Sequence[Shape]
    size: tuple[int, int] | None = None
    """width and height, pixels"""
    split: object = None


def entries(source: Source, tool: Tool, parse: Callable[[], Picture]) -> Iterator[MakeEntry]:
    """Yield one function per object of an image; damage to the image as a whole raises in the only one.

    Args:
        source: the annotation file.
        tool: the tool that wrote it.
        parse: reads the shapes of the image.
    """
    try:
        picture = parse()
    except UserError as error:
        yield _raising(error)
        return
    groups: dict[str, list[Shape]] = {}
    for shape in picture.shapes:
        groups.setdefault(shape.group, []).append(shape)
    if not groups:
        yield _raising(Excluded(NO_KEYPOINTS))
    num = sum(any(shape.is_keypoint for shape in shapes) for shapes in groups.values())
    for group, shapes in groups.items():
        yield partial(_entry, source, tool, picture, group, shapes, alone=num < 2)


def _raising(error: Exception) -> Callable[[], NoReturn]:
    def make() -> NoReturn:
        raise error

    return make


def _entry(source: Source, tool: Tool, picture: Picture, group: str, shapes: Sequence[Shape], *, alone: bool) -> Entry:
    where = f"{picture.where}: group {shown(group)}" if group else picture.where
    split = source.read_split(picture.split, where)
    points = _points(tool, shapes, where)
    photo, image = source.first_image(picture.names, f"{where}: image")
    boxes = [shape for shape in shapes if not shape.is_keypoint]
    if not group and len(boxes) > 1:
        source.note(f"{tool.name}: boxes without a group are ignored where an image has several")
        boxes = []
    category = _category(source, tool, boxes, where)
    object_box, box = _extents(source, tool, boxes, points, alone)
    entry_id = f"{category}/{photo}" + (f"#{group}" if group else "")
    return Entry(entry_id, category, split, photo, image, points, box, picture.size, object_box)


def _points(tool: Tool, shapes: Sequence[Shape], where: str) -> dict[str, tuple[float, float]]:
    """Read the keypoints of an object.

    Raises:
        UserError: one has no name, or two have the same.
        Excluded: there are too few.
    """
    keypoints = [shape for shape in shapes if shape.is_keypoint]
    if not keypoints:
        raise Excluded(UNLABELLED)
    points: dict[str, tuple[float, float]] = {}
    for shape in keypoints:
        name = as_label(shape.label, f"{where}: a keypoint", slashes=True)
        if name in points:
            raise UserError(f"{where}: the keypoint {name} is labelled twice; {tool.grouping}")
        (points[name],) = shape.corners
    check_enough(points)
    return points


def _category(source: Source, tool: Tool, boxes: Sequence[Shape], where: str) -> str:
    """Read the category that the boxes of an object agree in. Raises UserError."""
    labels = list(dict.fromkeys(as_label(box.label, f"{where}: category") for box in boxes))
    if len(labels) > 1:
        raise UserError(f"{where}: its boxes have several labels, {listed(labels)}; an object has one category")
    return labels[0] if labels else source.without_category(tool.name)


def _extents(
    source: Source, tool: Tool, boxes: Sequence[Shape], points: dict[str, tuple[float, float]], alone: bool
) -> tuple[Box | None, Box | None]:
    """Return the box of an object as annotated, and the part of the image to cut out.

    Returns:
        The first is None for an object without a box, the second for the whole image.

    Raises:
        Excluded: its box is empty.
    """
    corners = [corner for box in boxes for corner in box.corners]
    if not corners:
        if alone:
            return None, None
        source.note(f"{tool.name}: objects without a box, several in an image, are cut out at their keypoints")
        return None, box_around(points.values())
    xs, ys = zip(*corners, strict=True)
    box = checked_box(min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys))
    return box, box if source.clip_to_box else box_around(points.values(), box)
