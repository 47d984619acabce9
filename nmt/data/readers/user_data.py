"""Reader of your own labelled images: COCO keypoints, or a plain folder with one CSV or JSON of named keypoints.

COCO: one or more JSON files with images, annotations and categories (each with the names of its keypoints), in the
folder or in `annotations/` below. An object is cut out at its `bbox`; keypoints with v = 0 are not labelled, and crowds
are left out.

Plain: `*.csv` with the columns image, category, keypoint, x, y and perhaps split, a row a keypoint, one object of a
category an image; or `*.json`, a list of {"image", "category", "keypoints": {name: [x, y]}} and perhaps "split" and
"box": [x, y, width, height]. Without a box the whole image is the object.

Images lie in the folder, in `images/`, or where COCO has them (train2017/). Coordinates are pixels of the image as
viewers show it. Splits are as given (train, val, test; COCO also by file name, person_keypoints_train2017.json); images
without one are split 80 / 10 / 10 % by a hash of their name; where splits are given but none is val, a tenth of train
becomes val.

`mirror.csv` (category, left, right), where it is there, names the keypoints that change names in a mirrored image.
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
    """Lists the objects of whichever format lies in the folder.

    Args:
        raw: the folder.
        skip_bad: leave damaged annotations out instead of raising UserError.
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
"""(folder, annotation file) -> what makes each object, so that one that is damaged does not end the others"""


def _recognise(raw: Path) -> tuple[Reader, list[Path]]:
    looked_for = (
        "looked for *.csv (image,category,keypoint,x,y), *.json or annotations/*.json (COCO, or a list of objects)"
    )
    if not raw.is_dir():
        raise UserError(f"{raw}: is not there; {looked_for}")
    tables = sorted(path for path in raw.glob("*.csv") if path.name != MIRROR_FILE)
    contents = sorted(raw.glob("*.json")) or sorted((raw / "annotations").glob("*.json"))
    if tables and contents:
        raise UserError(f"{raw}: both {tables[0].name} and {contents[0].name}; keep the one that holds the keypoints")
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
    """(id, (name, keypoint names)) of the categories that have keypoints."""
    for category in _dicts(content.get("categories"), f"{file}: categories"):
        if category.get("keypoints"):
            where = f"{file}: category {shown(category.get('name'))}"
            names = [_keypoint(name, where) for name in as_list(category["keypoints"], f"{where}: keypoints")]
            if len(set(names)) < len(names):
                raise UserError(f"{where} has two keypoints of one name")
            yield str(category.get("id")), (as_name(category.get("name"), f"{where}: name"), names)


def _read_csv(raw: Path, file: Path) -> Iterator[Callable[[], Entry]]:
    """One object for each image and category, of all their rows."""
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
                raise UserError(f"{where}: {keypoint} of {name} is there already; one object of a category an image")
            points[keypoint] = as_number(row["x"], f"{where}: x"), as_number(row["y"], f"{where}: y")
        splits = {row.get("split") for _, row in rows}
        if len(splits) > 1:
            raise UserError(f"{where}: {name} is in several splits: {', '.join(sorted(map(str, splits)))}")
        split = _split(splits.pop(), where)
        return Entry(f"{category}/{name}", category, split, name, _image(raw, file, name), points)

    return (lambda rows=rows: make(rows) for rows in objects.values())  # type: ignore[misc]


def _read_mirror(file: Path, keypoint_names: Mapping[str, list[str]]) -> dict[str, dict[str, str]]:
    """Category -> keypoint name -> its name when the image is mirrored."""
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
                raise UserError(f"{where}: {name} of {category} is there already")
            of_category[name] = other
    return mirror


def _csv_rows(file: Path, needed: Sequence[str] = CSV_COLUMNS) -> Iterator[tuple[int, dict[str, str]]]:
    """(line, column -> text) of every row."""
    try:
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
    """The name of an image, perhaps with folders, that stays in the raw folder."""
    if not isinstance(value, str) or not value or "\0" in value:
        raise UserError(f"{where} must be the name of a file, but is {shown(value)}")
    path = PurePosixPath(value.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise UserError(f"{where} must lie in the folder itself, but is {shown(value)}")
    return str(path)


def _image(raw: Path, file: Path, name: str) -> Path:
    """Where an image lies; the first place looked at when it is nowhere, so that reading it says so."""
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
    """Width and height an annotation was made at, where it says so."""
    sides = image.get("width"), image.get("height")
    if not all(type(side) is int and side > 0 for side in sides):
        return None
    return sides  # type: ignore[return-value]


def _split(value: Any, where: str) -> str:
    """train, val or test; empty where none is given."""
    if value in (None, ""):
        return ""
    if value not in SPLITS:
        raise UserError(f"{where}: no split {shown(value)}; {nearest(str(value), SPLITS)}")
    return str(value)


def _fill_splits(listing: RawListing, raw: Path) -> None:
    """Gives every entry a split, by its image's name where none is given; val out of train where none is val."""
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
