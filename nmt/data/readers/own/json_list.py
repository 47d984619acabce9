"""Lists of objects in JSON: {"image", "category", "keypoints": {name: [x, y]}}, optionally with "split" and "box".

`box` is [x, y, width, height]; an object without one is the whole image. A keypoint that is null is not labelled.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from nmt.data.readers.base import Entry, as_box
from nmt.data.readers.own.source import MakeEntry, Source
from nmt.data.readers.values import as_dict, as_label, as_point
from nmt.errors import UserError
from nmt.io.user_files import shown

NAME = "a JSON list of objects"


def recognises(content: Any) -> bool:
    """Return True for a list of objects with an image, or an empty one."""
    return isinstance(content, list) and all(isinstance(item, dict) and "image" in item for item in content[:1])


def entries(source: Source) -> Iterator[MakeEntry]:
    """Yield one function per item; a further object of an image and category gets a number in its id."""
    numbers: dict[tuple[str, str], int] = {}

    def make(k: int) -> Entry:
        where = f"{source.shown_file}: object {k}"
        found = as_dict(source.content[k], where)
        split = source.read_split(found.get("split"), where)
        category = as_label(found.get("category"), f"{where}: category")
        photo, image = source.image(found.get("image"), f"{where}: image")
        points = _points(found.get("keypoints"), where)
        box = as_box(found.get("box"), f"{where}: box")
        number = numbers[category, photo] = numbers.get((category, photo), -1) + 1
        entry_id = f"{category}/{photo}" + (f"#{number}" if number else "")
        return Entry(entry_id, category, split, photo, image, points, box, object_box=box)

    return (lambda k=k: make(k) for k in range(len(source.content)))  # type: ignore[misc]


def _points(value: object, where: str) -> dict[str, tuple[float, float]]:
    points: dict[str, tuple[float, float]] = {}
    for given, xy in as_dict(value, f"{where}: keypoints").items():
        name = as_label(given, f"{where}: a keypoint", slashes=True)
        if name in points:
            raise UserError(f"{where}: the keypoint {name} is listed twice")
        if xy is None or xy == [None, None]:
            continue
        if isinstance(xy, list) and len(xy) == 3:
            raise UserError(
                f"{where}: keypoint {name} must be [x, y], but is {shown(xy)}; leave out unlabelled keypoints"
            )
        points[name] = as_point(xy, f"{where}: keypoint {name}")
    return points
