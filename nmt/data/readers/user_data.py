"""Reader of a user's own labelled images: COCO keypoints, a CSV table, or a JSON list of named keypoints.

COCO: one or more JSON files with images, annotations and categories, in the folder or in `annotations/`. Each category
names its keypoints. An object is cut out at its `bbox`. Keypoints with v = 0 are not labelled; crowds are left out.

CSV: `*.csv` with the columns image, category, keypoint, x, y and optionally split. Each row is one keypoint, and an
image has at most one object of a category.

JSON: `*.json`, a list of {"image", "category", "keypoints": {name: [x, y]}}, optionally with "split" and "box": [x, y,
width, height]. An object without a box is the whole image.

Images lie in the folder, in `images/`, or where COCO puts them (train2017/). Coordinates are pixels of the image as
viewers show it, EXIF orientation applied. Splits are train, val and test; COCO gives them by file name too, as in
person_keypoints_train2017.json. Images without a split are split 80 / 10 / 10 % by a hash of their names. Where splits
are given but none is val, a tenth of train becomes val.

`mirror.csv` (category, left, right) is optional. It lists the keypoints that swap names in a mirrored image.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from nmt.data.readers.base import (
    FEW_KEYPOINTS,
    Box,
    Entry,
    Excluded,
    RawListing,
    as_dict,
    as_list,
    as_name,
    as_number,
    as_point,
    carve,
    checked_box,
    points_within,
    read_bytes,
    read_json,
    shown,
)
from nmt.data.store.objects import MIN_KEYPOINTS, SPLITS
from nmt.errors import UserError, nearest, one_line

SHARES = {"train": 80, "val": 10, "test": 10}
VAL_SHARES = {"val": 10, "train": 90}
CSV_COLUMNS = ("image", "category", "keypoint", "x", "y")
MIRROR_FILE, MIRROR_COLUMNS = "mirror.csv", ("category", "left", "right")
CROWD = "crowds"
UNLABELLED = "annotations without keypoints"

_SPLIT_IN_NAME = re.compile(r"(?:^|[_-])(train|val|test)\d*$")


def read(raw: Path, *, skip_bad: bool) -> RawListing:
    """List the objects in a folder, in whichever format it holds.

    Args:
        raw: the folder.
        skip_bad: leave damaged annotations out instead of raising UserError.

    Raises:
        UserError: no annotations, damage (without `skip_bad`), an id or split given twice, or no pairs.
    """
    kind, files = _recognise(raw)
    listing = RawListing(files=files)
    for file in files:
        for make in kind(raw, file):
            with listing.leaving_out(skip_bad=skip_bad):
                entry = make()
                entry = dataclasses.replace(entry, points=points_within(entry.points, entry.box))
                if len(entry.points) < MIN_KEYPOINTS:
                    raise Excluded(FEW_KEYPOINTS)
                listing.entries.append(entry)
    listing.check_ids()
    _fill_splits(listing, raw)
    listing.drop_unpaired(raw)
    if (raw / MIRROR_FILE).is_file():
        listing.files.append(raw / MIRROR_FILE)
        listing.mirror = _read_mirror(raw / MIRROR_FILE, listing.keypoint_names())
    return listing


Reader = Callable[[Path, Path], Iterator[Callable[[], Entry]]]
"""(folder, annotation file) -> one function per object, which makes it: damage to one object leaves the others"""


def _recognise(raw: Path) -> tuple[Reader, list[Path]]:
    """Find the annotation files and their reader. Raises UserError when there are none, or of both kinds."""
    looked_for = (
        "looked for *.csv (image,category,keypoint,x,y), *.json or annotations/*.json (COCO, or a list of objects)"
    )
    if not raw.is_dir():
        raise UserError(f"{raw}: does not exist; {looked_for}")
    tables = sorted(path for path in raw.glob("*.csv") if path.name != MIRROR_FILE)
    contents = sorted(raw.glob("*.json")) or sorted((raw / "annotations").glob("*.json"))
    if tables and contents:
        raise UserError(
            f"{raw}: it holds both {tables[0].name} and {contents[0].name}; keep the one that holds the keypoints"
        )
    if not tables and not contents:
        raise UserError(f"{raw}: no annotations of keypoints; {looked_for}")
    if tables:
        return _read_csv, tables
    return _read_json, contents


def _read_json(raw: Path, file: Path) -> Iterator[Callable[[], Entry]]:
    content = read_json(file)
    if isinstance(content, list):
        return _read_list(raw, file, content)
    if isinstance(content, dict) and "annotations" in content:
        return _read_coco(raw, file, content)
    raise UserError(f"{file}: neither COCO keypoints (images, annotations, categories) nor a list of objects")


def _read_list(raw: Path, file: Path, content: list[Any]) -> Iterator[Callable[[], Entry]]:
    images: dict[str, int] = {}

    def make(k: int) -> Entry:
        where = f"{file}: object {k}"
        found = as_dict(content[k], where)
        name = _relative(found.get("image"), f"{where}: image")
        category = as_name(found.get("category"), f"{where}: category")
        named = as_dict(found.get("keypoints"), f"{where}: keypoints")
        points = {_keypoint(key, where): as_point(xy, f"{where}: keypoint {key}") for key, xy in named.items()}
        box = _box(found.get("box"), f"{where}: box")
        images[name] = images.get(name, -1) + 1
        entry_id = f"{category}/{name}" + (f"#{images[name]}" if images[name] else "")
        return Entry(entry_id, category, _split(found.get("split"), where), name, _image(raw, file, name), points, box)

    return (lambda k=k: make(k) for k in range(len(content)))  # type: ignore[misc]


def _read_coco(raw: Path, file: Path, content: dict[str, Any]) -> Iterator[Callable[[], Entry]]:
    categories = dict(_coco_categories(file, content))
    images = {str(image.get("id")): image for image in _dicts(content.get("images"), f"{file}: images")}
    by_name = _SPLIT_IN_NAME.search(file.stem)

    def make(k: int, found: dict[str, Any]) -> Entry:
        where = f"{file}: annotation {found.get('id', k)}"
        if found.get("iscrowd"):
            raise Excluded(CROWD)
        if not found.get("keypoints"):
            raise Excluded(UNLABELLED)
        image = images.get(str(found.get("image_id")))
        if image is None:
            raise UserError(f"{where}: image_id {shown(found.get('image_id'))} is none of the images")
        if str(found.get("category_id")) not in categories:
            raise UserError(f"{where}: category_id {shown(found.get('category_id'))} is none of the categories")
        category, names = categories[str(found["category_id"])]
        triples = as_list(found["keypoints"], f"{where}: keypoints", length=3 * len(names))
        numbers = [as_number(value, f"{where}: keypoints") for value in triples]
        points = {name: (numbers[3 * i], numbers[3 * i + 1]) for i, name in enumerate(names) if numbers[3 * i + 2] > 0}
        name = _relative(image.get("file_name"), f"{where}: file_name of its image")
        split = _split(image.get("split") or (by_name and by_name[1]), where)
        box, size = _box(found.get("bbox"), f"{where}: bbox"), _size(image, where)
        entry_id = f"{category}/{name}#{found.get('id', k)}"
        return Entry(entry_id, category, split, name, _image(raw, file, name), points, box, size)

    annotations = _dicts(content.get("annotations"), f"{file}: annotations")
    return (lambda k=k, found=found: make(k, found) for k, found in enumerate(annotations))  # type: ignore[misc]


def _coco_categories(file: Path, content: dict[str, Any]) -> Iterator[tuple[str, tuple[str, list[str]]]]:
    """Yield (id, (name, keypoint names)) of the categories that have keypoints."""
    for category in _dicts(content.get("categories"), f"{file}: categories"):
        if category.get("keypoints"):
            where = f"{file}: category {shown(category.get('name'))}"
            names = [_keypoint(name, where) for name in as_list(category["keypoints"], f"{where}: keypoints")]
            if len(set(names)) < len(names):
                raise UserError(f"{where} has two keypoints of one name")
            yield str(category.get("id")), (as_name(category.get("name"), f"{where}: name"), names)


def _read_csv(raw: Path, file: Path) -> Iterator[Callable[[], Entry]]:
    """Group the rows of a table into one object per image and category."""
    objects: dict[tuple[str, str], list[tuple[int, dict[str, str]]]] = {}
    for line, row in _csv_rows(file):
        objects.setdefault((row["image"], row["category"]), []).append((line, row))

    def make(rows: list[tuple[int, dict[str, str]]]) -> Entry:
        line, row = rows[0]
        where = f"{file}, line {line}"
        name, category = _relative(row["image"], f"{where}: image"), as_name(row["category"], f"{where}: category")
        points: dict[str, tuple[float, float]] = {}
        for line, row in rows:
            where = f"{file}, line {line}"
            keypoint = _keypoint(row["keypoint"], where)
            if keypoint in points:
                raise UserError(
                    f"{where}: {keypoint} of {name} is labelled twice; an image has one object of a category"
                )
            points[keypoint] = as_number(row["x"], f"{where}: x"), as_number(row["y"], f"{where}: y")
        splits = {row.get("split") for _, row in rows}
        if len(splits) > 1:
            raise UserError(f"{where}: {name} is in several splits: {', '.join(sorted(map(str, splits)))}")
        split = _split(splits.pop(), where)
        return Entry(f"{category}/{name}", category, split, name, _image(raw, file, name), points)

    return (lambda rows=rows: make(rows) for rows in objects.values())  # type: ignore[misc]


def _read_mirror(file: Path, keypoint_names: Mapping[str, list[str]]) -> dict[str, dict[str, str]]:
    """Read mirror.csv: category -> keypoint name -> its name in the mirrored image. Raises UserError."""
    mirror: dict[str, dict[str, str]] = {}
    for line, row in _csv_rows(file, MIRROR_COLUMNS):
        where, category = f"{file}, line {line}", row["category"]
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


def _csv_rows(file: Path, needed: Sequence[str] = CSV_COLUMNS) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (line, column -> text) of every row. Raises UserError for a missing column or a short row."""
    try:
        # utf-8-sig: spreadsheet programs put a byte order mark before the first column's name.
        reader = csv.DictReader(io.StringIO(read_bytes(file).decode("utf-8-sig"), newline=""), skipinitialspace=True)
        columns = [name.strip() for name in reader.fieldnames or []]
        reader.fieldnames = columns
        missing = [name for name in needed if name not in columns]
        if missing:
            raise UserError(f"{file}: no column {', '.join(missing)}; the first line names them: {','.join(needed)}")
        for row in reader:
            if any(row[name] is None for name in needed):
                raise UserError(f"{file}, line {reader.line_num}: fewer columns than the first line names")
            yield reader.line_num, {name: str(row[name] or "").strip() for name in columns}
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{file}: not readable CSV ({one_line(error)})") from error


def _dicts(value: Any, where: str) -> list[dict[str, Any]]:
    return [as_dict(item, f"{where}[{k}]") for k, item in enumerate(as_list(value, where))]


def _relative(value: Any, where: str) -> str:
    """Check the name of an image, perhaps with folders, and that it stays inside the raw folder."""
    if not isinstance(value, str) or not value or "\0" in value:
        raise UserError(f"{where} must be the name of a file, but is {shown(value)}")
    path = PurePosixPath(value.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise UserError(f"{where} must lie in the folder itself, but is {shown(value)}")
    return str(path)


def _image(raw: Path, file: Path, name: str) -> Path:
    """Find an image file. One that exists nowhere is placed in `images/`, and reading it raises the error."""
    of_file = file.stem.rpartition("_")[2]  # person_keypoints_train2017.json -> train2017
    folders = (raw / "images", raw, raw / of_file, raw / "images" / of_file)
    return next((folder / name for folder in folders if (folder / name).is_file()), raw / "images" / name)


def _keypoint(value: Any, where: str) -> str:
    if not isinstance(value, str) or not value or not value.isprintable():
        raise UserError(f"{where}: a keypoint needs a name, but has {shown(value)}")
    return value


def _box(value: Any, where: str) -> Box | None:
    if value is None:
        return None
    return checked_box(*(as_number(v, where) for v in as_list(value, where, length=4)))


def _size(image: dict[str, Any], where: str) -> tuple[int, int] | None:
    """Read the width and height of the annotated image, pixels; None where they are missing or impossible."""
    sides = image.get("width"), image.get("height")
    # `type(...) is int`, because JSON's true is an int to isinstance.
    if not all(type(side) is int and side > 0 for side in sides):
        return None
    return sides  # type: ignore[return-value]


def _split(value: Any, where: str) -> str:
    """Check a split; an empty string where none is given. Raises UserError with `where`."""
    if value in (None, ""):
        return ""
    if value not in SPLITS:
        raise UserError(f"{where}: no split {shown(value)}; {nearest(str(value), SPLITS)}")
    return str(value)


def _fill_splits(listing: RawListing, raw: Path) -> None:
    """Assign a split to every entry without one, and carve val out of train where splits are given but none is val."""
    given = {entry.split for entry in listing.entries} - {""}
    splits: dict[str, str] = {}
    filled = []
    for entry in listing.entries:
        split = entry.split or carve(entry.photo, SHARES)
        if given and "val" not in given and entry.split == "train":
            split = carve(entry.photo, VAL_SHARES)
        if splits.setdefault(entry.photo, split) != split:
            raise UserError(f"{raw}: {entry.photo} is in {splits[entry.photo]} and in {split}; an image has one split")
        filled.append(dataclasses.replace(entry, split=split))
    listing.entries = filled
