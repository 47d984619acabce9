"""The same objects as labelling tools write them, for the tests of their formats. Images have 40 x 20 pixels."""

from __future__ import annotations

import copy
import csv
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from tests.nmt_tests.data.readers.raw_sets import SQUARE, Points

WIDTH, HEIGHT = 40, 20
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Labelled:
    """One object of an image."""

    image: str
    points: Points = field(default_factory=lambda: dict(SQUARE))
    category: str = "object"
    box: Box | None = None
    """x, y, width, height"""


def birds(num: int = 12, **more: Any) -> list[Labelled]:
    return [Labelled(f"{k}.jpg", **more) for k in range(num)]


def dump(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def labelme(name: str, points: Points = SQUARE, **more: Any) -> dict[str, Any]:
    """The content of LabelMe's file for one image, without groups."""
    shapes = [labelme_shape(label, [xy]) for label, xy in points.items()]
    content = {"version": "5.4.1", "flags": {}, "shapes": shapes, "imagePath": name, "imageData": "aGVsbG8="}
    return content | {"imageHeight": HEIGHT, "imageWidth": WIDTH} | more


def labelme_shape(label: str, points: Sequence[Any], kind: str = "point", group: Any = None) -> dict[str, Any]:
    return {
        "label": label,
        "points": [list(xy) for xy in points],
        "group_id": group,
        "shape_type": kind,
        "flags": {},
    }


def write_labelme(root: Path, found: Iterable[Labelled], folder: str = "", prefix: str = "") -> Path:
    for item in found:
        dump(root / folder / f"{Path(item.image).stem}.json", labelme(f"{prefix}{item.image}", item.points))
    return root


def dlc_rows(found: Sequence[Labelled], parts: Sequence[str] = tuple(SQUARE), folder: str = "labeled-data\\v\\") -> Any:
    """Header and rows of DeepLabCut's table for one individual; what is not labelled is empty."""
    header = [["scorer", *["me"] * 2 * len(parts)], ["bodyparts", *(part for part in parts for _ in "xy")]]
    rows = [
        [f"{folder}{item.image}", *(value for part in parts for value in item.points.get(part, ("", "")))]
        for item in found
    ]
    return [*header, ["coords", *["x", "y"] * len(parts)], *rows]


def write_rows(path: Path, rows: Iterable[Sequence[Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def write_dlc(root: Path, found: Sequence[Labelled]) -> Path:
    write_rows(root / "CollectedData_me.csv", dlc_rows(found))
    return root


def region(kind: str, label: str, value: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """One region of a result of Label Studio; x, y, width and height in pixels."""
    scale = {"x": WIDTH, "width": WIDTH, "y": HEIGHT, "height": HEIGHT}
    percent = {key: 100 * number / scale[key] for key, number in value.items()}
    return {
        "original_width": WIDTH,
        "original_height": HEIGHT,
        "image_rotation": 0,
        "type": kind,
        "value": percent | {kind: [label]},
        **more,
    }


def keypoint(label: str, xy: Sequence[Any], **more: Any) -> dict[str, Any]:
    return region("keypointlabels", label, {"x": xy[0], "y": xy[1], "width": 0.2}, **more)


def task(name: str, results: Sequence[Any], **more: Any) -> dict[str, Any]:
    return {"id": 7, "data": {"img": name}, "annotations": [{"id": 1, "result": list(results), **more}]}


def write_label_studio(root: Path, found: Iterable[Labelled]) -> Path:
    tasks = [task(i.image, [keypoint(name, xy) for name, xy in i.points.items()]) for i in found]
    dump(root / "export.json", tasks)
    return root


def write_coco(root: Path, found: Sequence[Labelled], names: Sequence[str] = tuple(SQUARE)) -> Path:
    flat = [
        [v for name in names for v in (*item.points.get(name, (0, 0)), 2 * (name in item.points))] for item in found
    ]
    content = {
        "categories": [{"id": 1, "name": "object", "keypoints": list(names)}],
        "images": [
            {"id": k, "file_name": item.image, "width": WIDTH, "height": HEIGHT} for k, item in enumerate(found)
        ],
        "annotations": [{"id": k, "image_id": k, "category_id": 1, "keypoints": flat[k]} for k in range(len(found))],
    }
    dump(root / "coco.json", content)
    return root


def write_table(root: Path, found: Iterable[Labelled]) -> Path:
    rows = [(i.image, i.category, name, x, y) for i in found for name, (x, y) in i.points.items()]
    write_rows(root / "points.csv", [("image", "category", "keypoint", "x", "y"), *rows])
    return root


def write_list(root: Path, found: Iterable[Labelled]) -> Path:
    dump(
        root / "points.json",
        [
            {"image": i.image, "category": i.category, "keypoints": {n: list(xy) for n, xy in i.points.items()}}
            for i in found
        ],
    )
    return root


def cvat_points(label: str, xy: Sequence[Any], **attributes: Any) -> str:
    more = "".join(f' {key}="{value}"' for key, value in attributes.items())
    return f'<points label="{label}" points="{xy[0]},{xy[1]}"{more}></points>'


def cvat(images: Mapping[str, str]) -> str:
    """annotations.xml of images by their names, with their shapes as XML."""
    inner = "".join(
        f'<image id="{k}" name="{name}" width="{WIDTH}" height="{HEIGHT}">{shapes}</image>'
        for k, (name, shapes) in enumerate(images.items())
    )
    return f'<?xml version="1.0" encoding="utf-8"?><annotations><version>1.1</version>{inner}</annotations>'


def write_cvat(root: Path, found: Iterable[Labelled]) -> Path:
    shapes = {i.image: "".join(cvat_points(name, xy) for name, xy in i.points.items()) for i in found}
    (root / "annotations.xml").write_text(cvat(shapes))
    return root


def write_cub(root: Path, found: Sequence[Labelled], names: Sequence[str] = tuple(SQUARE)) -> Path:
    (root / "parts").mkdir(exist_ok=True)
    categories = sorted({item.category for item in found})
    files = {
        "parts/parts.txt": [(k, name) for k, name in enumerate(names, 1)],
        "parts/part_locs.txt": [
            (k, p, *item.points.get(name, (0.0, 0.0)), int(name in item.points))
            for k, item in enumerate(found, 1)
            for p, name in enumerate(names, 1)
        ],
        "images.txt": [(k, item.image) for k, item in enumerate(found, 1)],
        "classes.txt": [(k, name) for k, name in enumerate(categories, 1)],
        "image_class_labels.txt": [(k, 1 + categories.index(i.category)) for k, i in enumerate(found, 1)],
    }
    if all(item.box for item in found):
        files["bounding_boxes.txt"] = [(k, *(i.box or ())) for k, i in enumerate(found, 1)]
    for name, rows in files.items():
        (root / name).write_text("".join(" ".join(map(str, row)) + "\n" for row in rows))
    return root


WRITERS: dict[str, Callable[[Path, Sequence[Labelled]], Path]] = {
    "table": write_table,
    "list": write_list,
    "coco": write_coco,
    "labelme": write_labelme,
    "deeplabcut": write_dlc,
    "label_studio": write_label_studio,
    "cvat": write_cvat,
    "cub": write_cub,
}
"""format -> writes objects, one per image, of category "object", without boxes"""

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
"""any JSON"""
STEPS = st.lists(st.integers(0, 30), min_size=1, max_size=7)
"""a way into a JSON document, for `replaced`"""


def replaced(content: Any, steps: Sequence[int], value: Any) -> Any:
    """A copy of JSON with one value replaced: each step chooses a child, until there is none."""
    content = copy.deepcopy(content)
    node, place = {"root": content}, "root"
    top = node
    for step in steps:
        inner = node[place]
        if not isinstance(inner, dict | list) or not inner:
            break
        node, place = inner, (sorted(inner)[step % len(inner)] if isinstance(inner, dict) else step % len(inner))
    node[place] = value
    return top["root"]
