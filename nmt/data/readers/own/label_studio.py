"""Label Studio: its JSON export, with results per task, and JSON-MIN. Coordinates are percent of the image's sides.

A rectangle, polygon or ellipse gives category and box to the keypoints whose parent it is. Where no keypoint has a
parent, the only one of an image does. Of several annotations of a task one is read: the ground truth, or the latest.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote

from nmt.data.readers.own import shapes
from nmt.data.readers.own.image_files import IMAGE_SUFFIXES
from nmt.data.readers.own.shapes import Picture, Shape, Tool
from nmt.data.readers.own.source import MakeEntry, Source
from nmt.data.readers.values import as_dict, as_list, as_number, as_point
from nmt.errors import UserError
from nmt.io.user_files import shown

NAME = "Label Studio"
_TOOL = Tool(NAME, "draw a box around each object and make it the parent of its keypoints")
_LABELS = ("keypointlabels", "rectanglelabels", "polygonlabels", "ellipselabels", "labels")
_SEVERAL = f"{NAME}: of several annotations of a task, the ground truth or else the latest is read"


def recognises(content: Any) -> bool:
    """Return True for tasks with their annotations, or for JSON-MIN with labels of keypoints."""
    tasks = content if isinstance(content, list) else [content]
    return any(isinstance(task, dict) and (_results_key(task) is not None or _is_min(task)) for task in tasks)


def _results_key(task: Mapping[str, Any]) -> str | None:
    """Return the key of a task's annotations: "completions" before version 1.0. None: there are none."""
    if not isinstance(task.get("data"), dict):
        return None
    return next((key for key in ("annotations", "completions") if key in task), None)


def _is_min(task: Mapping[str, Any]) -> bool:
    return any(isinstance(item, dict) and "keypointlabels" in item for value in task.values() for item in _items(value))


def _items(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def entries(source: Source) -> Iterator[MakeEntry]:
    """Yield one function per object of a task."""
    tasks = source.content if isinstance(source.content, list) else [source.content]
    for k, task in enumerate(tasks):
        yield from shapes.entries(source, _TOOL, partial(_picture, source, task, k))


@dataclass(frozen=True)
class _Region:
    """One labelled region of a result."""

    where: str
    id: str
    parent: str
    label: object
    value: dict[str, Any]
    size: tuple[float, float]
    """width and height of the image that was labelled, pixels"""
    is_keypoint: bool


def _picture(source: Source, value: object, k: int) -> Picture:
    task = as_dict(value, f"{source.shown_file}: task {k}")
    where = f"{source.shown_file}: task {shown(task.get('id', k))}"
    if _results_key(task) is None:
        data = task
        results = [item for value in task.values() for item in _items(value) if isinstance(item, dict)]
    else:
        data, results = task["data"], _results(source, task, where)
    found = (_region(item, f"{where}: result {n}") for n, item in enumerate(results))
    regions = [region for region in found if region is not None]
    parents = {region.parent for region in regions if region.is_keypoint} - {""}
    drawn = [_shape(region, parents) for region in regions]
    size = next((region.size for region in regions), None)
    return Picture(
        where,
        file_names(_image(data)),
        drawn,
        None if size is None else (round(size[0]), round(size[1])),
        data.get("split"),
    )


def _results(source: Source, task: Mapping[str, Any], where: str) -> list[Any]:
    """Return the results of the annotation of a task that counts; none where all were cancelled. Raises UserError."""
    key = _results_key(task)
    given = [as_dict(item, f"{where}: {key}") for item in as_list(task[key or ""], f"{where}: {key}")]
    valid = [item for item in given if not item.get("was_cancelled")]
    if not valid:
        return []
    if len(valid) > 1:
        source.note(_SEVERAL)
    # The times are ISO 8601 in UTC, so their order is that of the texts; equal ones keep the order of the file.
    chosen = max(
        enumerate(valid), key=lambda pair: (bool(pair[1].get("ground_truth")), str(pair[1].get("updated_at")), pair[0])
    )[1]
    return as_list(chosen.get("result"), f"{where}: result")


def _region(value: object, where: str) -> _Region | None:
    """Read a region with a label; None for relations, choices and the like. Raises UserError."""
    item = as_dict(value, where)
    content = as_dict(item.get("value", item), f"{where}: value")
    kind = next((key for key in _LABELS if key in content), None)
    if kind is None:
        return None
    labels = as_list(content[kind], f"{where}: {kind}")
    if len(labels) != 1:
        raise UserError(f"{where}: {kind} must hold one label, but is {shown(labels)}")
    if item.get("image_rotation") not in (None, 0):
        raise UserError(f"{where}: the image was rotated in {NAME}; export COCO keypoints, or rotate the file")
    sides = [as_number(item.get(f"original_{side}"), f"{where}: original_{side}") for side in ("width", "height")]
    if not all(0 < side < math.inf for side in sides):
        raise UserError(f"{where}: original_width and original_height must be more than 0, but are {shown(sides)}")
    is_keypoint = kind == "keypointlabels" or not {"height", "points", "radiusX"} & content.keys()
    region_id, parent = (_text(item.get(key), f"{where}: {key}") for key in ("id", "parentID"))
    return _Region(where, region_id, parent, labels[0], content, (sides[0], sides[1]), is_keypoint)


def _text(value: object, where: str) -> str:
    """Read an id; an empty text where there is none. Raises UserError."""
    if value is None:
        return ""
    if not isinstance(value, str | int) or not str(value).isprintable():
        raise UserError(f"{where} must be a text, but is {shown(value)}")
    return str(value)


def _shape(region: _Region, parents: set[str]) -> Shape:
    """Convert a region to a shape in pixels. Raises UserError."""
    group = region.parent if region.is_keypoint else region.id if region.id in parents else ""
    width, height = region.size
    corners = [(x * width / 100, y * height / 100) for x, y in _corners(region)]
    return Shape(region.label, corners, region.is_keypoint, group)


def _corners(region: _Region) -> list[tuple[float, float]]:
    """Return the keypoint of a region, or the corners of its box, percent of the sides. Raises UserError."""
    value, where = region.value, region.where

    def number(key: str) -> float:
        return as_number(value.get(key), f"{where}: {key}")

    if not region.is_keypoint and "points" in value:
        points = [as_point(xy, f"{where}: points") for xy in as_list(value["points"], f"{where}: points")]
        if not points:
            raise UserError(f"{where}: points must hold at least one pair x, y")
        return points
    x, y = number("x"), number("y")
    if region.is_keypoint:
        return [(x, y)]
    if "radiusX" in value:
        across, down = number("radiusX"), number("radiusY")
        return [(x - across, y - down), (x + across, y + down)]
    return _rectangle(x, y, number("width"), number("height"), value.get("rotation"), region)


def _rectangle(
    x: float, y: float, width: float, height: float, rotation: object, region: _Region
) -> list[tuple[float, float]]:
    """Return the corners of a rectangle that is rotated around its first corner, clockwise, in degrees."""
    angle = math.radians(as_number(rotation or 0, f"{region.where}: rotation"))
    # Percent of the two sides are different lengths, so the rotation is done in pixels.
    across, down = region.size
    cos, sin = math.cos(angle), math.sin(angle)
    offsets = [(dx * across, dy * down) for dx in (0, width) for dy in (0, height)]
    return [(x + (dx * cos - dy * sin) / across, y + (dx * sin + dy * cos) / down) for dx, dy in offsets]


def _image(data: Mapping[str, Any]) -> object:
    """Return the value of a task that names its image: `image` or `img`, or else the first that looks like one."""
    named = [data[key] for key in ("image", "img") if isinstance(data.get(key), str)]
    texts = [value for value in data.values() if isinstance(value, str)]
    return next(iter(named + [text for text in texts if _is_image(text)]), None)


def _is_image(text: str) -> bool:
    return PurePosixPath(text.partition("?")[0] if "?d=" not in text else text).suffix.lower() in IMAGE_SUFFIXES


def file_names(value: object) -> list[object]:
    """Return the names that an image may have, given how Label Studio names it.

    Args:
        value: /data/upload/1/5f3a9c1e-a.jpg (uploaded: with a prefix), /data/local-files/?d=folder/a.jpg, an address,
            or a path on the computer where Label Studio ran.

    Returns:
        The name, without folders that only Label Studio has; its last part; and that part without a prefix.
    """
    if not isinstance(value, str):
        return [value]
    path = value.replace("\\", "/")
    path = unquote(path.partition("?d=")[2].partition("&")[0] if "?d=" in path else path.partition("?")[0])
    last = path.rpartition("/")[2]
    parts = path.split("/")
    is_upload = "upload" in parts and ("data" in parts or "media" in parts)
    names = [] if is_upload or "label-studio" in parts else [value if "://" in value else path.lstrip("/")]
    prefix, _, original = last.partition("-")
    without_prefix = [original] if is_upload and prefix.isalnum() and original else []
    return [*names, last, *without_prefix]
