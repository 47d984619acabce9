"""COCO keypoints: images, annotations and categories, of which those with keypoint names count.

An object is cut out at its `bbox`, enlarged to hold all its labelled keypoints unless `clip_to_box`. Keypoints with
v = 0 are not labelled; crowds are left out. A box of zeros is the box of the keypoints, an empty one the whole image.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from nmt.data.readers.base import Box, Entry, Excluded, as_box, box_around
from nmt.data.readers.own.label_studio import file_names
from nmt.data.readers.own.source import UNLABELLED, MakeEntry, Source, check_enough
from nmt.data.readers.values import as_dict, as_label, as_list, as_number, as_size
from nmt.errors import UserError
from nmt.io.user_files import listed, shown

NAME = "COCO keypoints"
CROWD = "crowds"
NO_NAMES = 'no category names its keypoints; add "keypoints": [NAME, ...] to it, or export COCO keypoints'

_BEYOND = 1.05
"""share of the image's side that the far edge of a box may reach; more of it looks like a corner, not a size"""


@dataclass(frozen=True)
class _Category:
    name: str
    keypoints: list[str]


def recognises(content: Any) -> bool:
    """Return True for an object with annotations or images, with keypoints or not."""
    return isinstance(content, dict) and ("annotations" in content or "images" in content)


def has_keypoints(content: Any) -> bool:
    """Return True unless this is plainly another file of COCO: captions, instances, image information."""
    if "annotations" not in content:
        return False
    lists = [content.get(key) for key in ("categories", "annotations")]
    found = (item for items in lists if isinstance(items, list) for item in items)
    return any(isinstance(item, dict) and item.get("keypoints") for item in found)


def why_skipped(content: dict[str, Any]) -> str:
    """Say what a file without keypoints lacks."""
    return NO_NAMES if "annotations" in content else "it has images, but no annotations"


def entries(source: Source) -> Iterator[MakeEntry]:
    """Yield one function per annotation."""
    file, content = source.shown_file, source.content
    categories, images = _categories(source), _images(source)
    annotations = _dicts(content.get("annotations"), f"{file}: annotations")
    _refuse_corners(source, annotations, images)

    def make(k: int, found: dict[str, Any]) -> Entry:
        number = _annotation_id(found.get("id", k), f"{file}: annotations[{k}]")
        where = f"{file}: annotation {number}"
        if found.get("iscrowd"):
            raise Excluded(CROWD)
        if _is_unlabelled(found.get("keypoints")):
            raise Excluded(UNLABELLED)
        image = images.get(_id(found.get("image_id")))
        if image is None:
            raise UserError(f"{where}: image_id {shown(found.get('image_id'))} is none of the images")
        split = source.read_split(image.get("split"), where)
        category = categories.get(_id(found.get("category_id")))
        if category is None:
            raise UserError(
                f"{where}: category_id {shown(found.get('category_id'))} is none of the categories with keypoint names"
            )
        points = _points(found["keypoints"], category, where)
        check_enough(points)
        photo, path = source.first_image(_names(image.get("file_name")), f"{where}: file_name of its image")
        object_box, box = _boxes(found.get("bbox"), points, f"{where}: bbox", clip=source.clip_to_box)
        entry_id = f"{category.name}/{photo}#{number}"
        return Entry(entry_id, category.name, split, photo, path, points, box, _size(image), object_box)

    return (lambda k=k, found=found: make(k, found) for k, found in enumerate(annotations))  # type: ignore[misc]


def _categories(source: Source) -> dict[str, _Category]:
    """Read the categories that have keypoint names, by id. Raises UserError if none has, or an id has two."""
    found: dict[str, _Category] = {}
    others: list[str] = []
    for category in _dicts(source.content.get("categories"), f"{source.shown_file}: categories"):
        where = f"{source.shown_file}: category {shown(category.get('name'))}"
        if not category.get("keypoints"):
            others.append(shown(category.get("name")))
            continue
        names = as_list(category["keypoints"], f"{where}: keypoints")
        keypoints = [as_label(name, f"{where}: a keypoint", slashes=True) for name in names]
        if len(set(keypoints)) < len(keypoints):
            raise UserError(f"{where} has two keypoints of one name")
        key = _id(category.get("id"))
        if key in found:
            raise UserError(
                f"{where} has the id {shown(category.get('id'))} of category {found[key].name}; give each its own"
            )
        found[key] = _Category(as_label(category.get("name"), f"{where}: name"), keypoints)
    if not found:
        raise UserError(f"{source.shown_file}: {NO_NAMES} (categories: {listed(others) or 'none'})")
    return found


def _images(source: Source) -> dict[str, dict[str, Any]]:
    """Read the images by id. Raises UserError for two of one id."""
    found: dict[str, dict[str, Any]] = {}
    for image in _dicts(source.content.get("images"), f"{source.shown_file}: images"):
        key = _id(image.get("id"))
        if key in found and found[key].get("file_name") != image.get("file_name"):
            names = f"{shown(found[key].get('file_name'))} and {shown(image.get('file_name'))}"
            raise UserError(
                f"{source.shown_file}: images {names} have one id, {shown(image.get('id'))}; were files merged? Give "
                "each its own"
            )
        found[key] = image
    return found


def _id(value: object) -> str:
    """Return an id as text: some tools write 1, others "1" or 1.0."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _annotation_id(value: object, where: str) -> str:
    """Read the id of an annotation, a part of the object's id. Raises UserError."""
    if isinstance(value, bool) or not isinstance(value, int | float | str) or not str(value).isprintable():
        raise UserError(f"{where}: id must be a number or a text, but is {shown(value)}")
    return _id(value)


def _is_unlabelled(value: object) -> bool:
    """Return True for no keypoints, and for triples x, y, v that all have v = 0."""
    return not value or (isinstance(value, list) and len(value) % 3 == 0 and all(v == 0 for v in value[2::3]))


def _points(value: object, category: _Category, where: str) -> dict[str, tuple[float, float]]:
    """Read the labelled keypoints of an annotation: triples x, y, v in the order of the category's names."""
    names = category.keypoints
    if isinstance(value, list) and len(value) != 3 * len(names):
        raise UserError(
            f"{where}: keypoints must be a list of {3 * len(names)}, x, y, v of each keypoint that category "
            f"{category.name} names, but has {len(value)}"
        )
    where = f"{where}: keypoints"
    triples = zip(*[iter(as_list(value, where))] * 3, strict=True)
    # Coordinates of what is not labelled do not count; some tools write null there.
    return {
        name: (as_number(x, where), as_number(y, where))
        for name, (x, y, v) in zip(names, triples, strict=True)
        if as_number(v, where) > 0
    }


def _names(value: object) -> list[object]:
    """Return the names that an image may have; folders of a Label Studio project are not in its exports."""
    parts = value.replace("\\", "/").split("/") if isinstance(value, str) else []
    is_upload = "upload" in parts and ("media" in parts or "data" in parts)
    return file_names(value) if is_upload or {"label-studio", "local-files"} & {*parts} else [value]


def _boxes(
    value: object, points: dict[str, tuple[float, float]], where: str, *, clip: bool
) -> tuple[Box | None, Box | None]:
    """Return the object's box as annotated, and the part of the image to cut out."""
    if value in ([], None):
        return None, None
    if value == [0, 0, 0, 0]:
        return None, box_around(points.values())
    box = as_box(value, where)
    return box, box if clip or box is None else box_around(points.values(), box)


def _refuse_corners(source: Source, annotations: list[dict[str, Any]], images: dict[str, dict[str, Any]]) -> None:
    """Raise UserError if most boxes are two corners instead of a corner and a size."""
    corners, boxes, example = 0, 0, None
    for found in annotations:
        size, box = _size(images.get(_id(found.get("image_id")), {})), found.get("bbox")
        if size is None or not isinstance(box, list) or len(box) != 4 or not all(_is_number(side) for side in box):
            continue
        (x, y, x1, y1), (width, height) = box, size
        boxes += 1
        beyond = x + x1 > _BEYOND * width or y + y1 > _BEYOND * height
        if beyond and 0 <= x < x1 <= width and 0 <= y < y1 <= height:
            corners, example = corners + 1, example or (box, size)
    if example and 2 * corners >= boxes:
        box, (width, height) = example
        raise UserError(
            f"{source.shown_file}: bbox {box} reaches beyond its image of {width} x {height}, as do {corners} of "
            f"{boxes}; COCO's bbox is [x, y, width, height], not two corners"
        )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _size(image: dict[str, Any]) -> tuple[int, int] | None:
    return as_size(image.get("width"), image.get("height"))


def _dicts(value: Any, where: str) -> list[dict[str, Any]]:
    return [as_dict(item, f"{where}[{k}]") for k, item in enumerate(as_list(value, where))]
