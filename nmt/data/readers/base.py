"""Shared parts of the readers of raw data sets: listed objects, checked annotation values, and image loading.

A reader (voc, spair, user_data) lists a raw data set as `Entry` objects and opens no image. `load` turns one entry into
the `RawObject` that the store takes. It needs nothing but the entry, so any process can load any part of a data set.

Two kinds of trouble are kept apart. Damage (an unreadable file, an impossible annotation) raises a `UserError` that
names the file; with `skip_bad` it is left out and counted. Objects that the protocol excludes raise `Excluded` and are
always counted.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.parsers import expat

import numpy as np
from PIL import Image, ImageOps

from nmt.data.store.given_pairs import GivenPair
from nmt.data.store.objects import MIN_KEYPOINTS, SPLITS, stable_hash
from nmt.data.store.partners import Partners
from nmt.data.store.writer import RawObject
from nmt.errors import UserError, one_line

Box = tuple[float, float, float, float]
"""x0, y0, x1, y1, pixels of the photograph"""
FEW_KEYPOINTS = f"fewer than {MIN_KEYPOINTS} keypoints"
EMPTY_BOX = "an empty box"
NO_PARTNER = f"no other photograph with {MIN_KEYPOINTS} common keypoints"
UNREADABLE = "unreadable"
OUTSIDE_BOX = "keypoints outside their box"
OUTSIDE_IMAGE = "keypoints outside the image"
NOT_FINITE = "keypoints with NaN or infinite coordinates"

_PLAIN_NAME = re.compile(r"[^/\\\0]+")


class Excluded(Exception):
    """An object that the protocol excludes; the message is the reason it is counted under."""


@dataclass(frozen=True)
class Entry:
    """One listed object of a raw data set; its image has not been read."""

    id: str
    """name of the object, unique in the data set"""
    category: str
    split: str
    """train, val or test"""
    photo: str
    """name of the photograph: objects of one photograph are never paired, nor put into two splits"""
    image: Path
    points: Mapping[str, tuple[float, float]]
    """keypoint name -> (x, y), pixels of the photograph"""
    box: Box | None = None
    """part of the photograph to cut out; None: the whole photograph"""
    size: tuple[int, int] | None = None
    """width and height of the image that was annotated, pixels; None: not given"""


@dataclass
class RawListing:
    """The objects of a raw data set, and what was left out on the way."""

    entries: list[Entry] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    """annotation files that were read (images not included)"""
    left_out: Counter[str] = field(default_factory=Counter)
    """reason -> number of objects, or of pairs or keypoints where the reason names them"""
    pairs: list[GivenPair] | None = None
    """given pairs; None: pairs are drawn from the objects"""
    mirror: dict[str, dict[str, str]] = field(default_factory=dict)
    """category -> keypoint name -> its name in the mirrored image; names that do not change are omitted"""

    @contextlib.contextmanager
    def leaving_out(self, *, skip_bad: bool) -> Iterator[None]:
        """Count in `left_out` an object that the block excludes or, with `skip_bad`, cannot read; see `counting`."""
        with counting(self.left_out, skip_bad=skip_bad):
            yield

    def keypoint_names(self) -> dict[str, list[str]]:
        """Return category -> keypoint names, both sorted; names that are numbers are sorted by value."""
        names: dict[str, set[str]] = {}
        for entry in self.entries:
            names.setdefault(entry.category, set()).update(entry.points)
        return {category: sorted(names[category], key=_natural) for category in sorted(names)}

    def input_files(self) -> list[Path]:
        """Return every file that the data set is made from, images included, sorted. Some may not exist."""
        return sorted({*self.files, *(entry.image for entry in self.entries)})

    def check_ids(self) -> None:
        """Check that no two entries have the same id. Raises UserError."""
        for entry_id, num in Counter(entry.id for entry in self.entries).items():
            if num > 1:
                image = next(entry.image for entry in self.entries if entry.id == entry_id)
                raise UserError(f"{image}: object {entry_id} is listed {num} times; give each a different id")

    def drop_unpaired(self, raw: Path) -> None:
        """Leave out the objects that cannot be paired with any other of their split and category.

        Args:
            raw: folder of the raw data set, for the message.

        Raises:
            UserError: split train or val has no objects left.
        """
        partners, objects = Partners(), [((e.split, e.category), e.photo, frozenset(e.points)) for e in self.entries]
        for seen in objects:
            partners.add(*seen)
        paired = {entry.id for entry, seen in zip(self.entries, objects, strict=True) if partners.has(*seen)}
        if len(paired) < len(self.entries):
            self.left_out[NO_PARTNER] += len(self.entries) - len(paired)
        self.entries = [entry for entry in self.entries if entry.id in paired]
        for split in SPLITS[:2]:
            if not any(entry.split == split for entry in self.entries):
                raise UserError(
                    f"{raw}: no two photographs of a category with {MIN_KEYPOINTS} common keypoints in split {split}; "
                    f"left out: {dict(self.left_out)}"
                )


@contextlib.contextmanager
def counting(left_out: Counter[str], *, skip_bad: bool) -> Iterator[None]:
    """Count an object that the block excludes or cannot read, instead of raising.

    Args:
        left_out: reason -> number of objects, increased in place.
        skip_bad: count damage as well; otherwise its UserError is raised.
    """
    try:
        yield
    except Excluded as reason:
        left_out[str(reason)] += 1
    except UserError:
        if not skip_bad:
            raise
        left_out[UNREADABLE] += 1


def _natural(name: str) -> tuple[int, int, str]:
    """Return a sorting key: numbers by value (SPair-71k numbers its keypoints), then names by letters."""
    return (0, int(name), name) if name.isascii() and name.isdigit() else (1, 0, name)


def carve(photo: str, shares: Mapping[str, int]) -> str:
    """Assign a photograph to a split by a hash of its name.

    The split thus depends on neither the order nor the number of photographs: adding some moves none of the others.

    Args:
        photo: name of the photograph.
        shares: split -> percent; their sum is 100.
    """
    percentile = stable_hash(photo) % 100
    for split, share in shares.items():
        percentile -= share
        if percentile < 0:
            return split
    raise AssertionError(f"shares {shares} are less than 100 %")


def points_within(
    points: Mapping[str, tuple[float, float]],
    box: Box | None,
    left_out: Counter[str] | None = None,
    *,
    outside: str = OUTSIDE_BOX,
) -> dict[str, tuple[float, float]]:
    """Keep the keypoints inside a box, its edge included.

    Args:
        points: keypoint name -> (x, y), pixels.
        box: None keeps every keypoint with finite coordinates.
        left_out: reason -> number of keypoints, increased in place by those that are not kept; None: not counted.
        outside: the reason that a keypoint outside the box is counted under.
    """
    x0, y0, x1, y1 = box or (-math.inf, -math.inf, math.inf, math.inf)
    kept = {}
    for name, (x, y) in points.items():
        if not (math.isfinite(x) and math.isfinite(y)):
            reason = NOT_FINITE
        elif not (x0 <= x <= x1 and y0 <= y <= y1):
            reason = outside
        else:
            kept[name] = (x, y)
            continue
        if left_out is not None:
            left_out[reason] += 1
    return kept


def checked_box(x: float, y: float, width: float, height: float) -> Box:
    """Convert a corner and a size, pixels, to a box. Raises Excluded when it is empty or not finite."""
    if not all(map(math.isfinite, (x, y, width, height))) or width <= 0 or height <= 0:
        raise Excluded(EMPTY_BOX)
    return x, y, x + width, y + height


def load(entry: Entry, *, size: int, left_out: Counter[str] | None = None) -> RawObject:
    """Read an entry's image, cut out its box, and resize it to a square; the keypoints move with it.

    Args:
        entry: the listed object.
        size: side of the square, pixels.
        left_out: reason -> number of keypoints, increased in place by those that are dropped; None: not counted.

    Returns:
        The object as the store takes it, keypoints in pixels of the square.

    Raises:
        UserError: the image cannot be read.
        Excluded: fewer than two keypoints lie in the image, or the box lies outside it.
    """
    image = open_image(entry.image, size=entry.size)
    whole = 0.0, 0.0, float(image.width), float(image.height)
    # First the image, so that coordinates of a larger original are counted as such, though the box lies outside too.
    inside = points_within(entry.points, whole, left_out, outside=OUTSIDE_IMAGE)
    x0, y0, x1, y1 = entry.box or whole
    # Boxes of COCO and PascalVOC may reach a little beyond the image.
    x0, y0, x1, y1 = max(x0, 0.0), max(y0, 0.0), min(x1, whole[2]), min(y1, whole[3])
    if x1 - x0 < 1 or y1 - y0 < 1:
        raise Excluded(EMPTY_BOX)
    inside = points_within(inside, (x0, y0, x1, y1), left_out)
    if len(inside) < MIN_KEYPOINTS:
        raise Excluded(FEW_KEYPOINTS)
    # Pillow's filter widens when an image shrinks, so there is no aliasing; the aspect ratio is not kept, as published.
    square = image.resize((size, size), Image.Resampling.BICUBIC, box=(x0, y0, x1, y1))
    points = {
        name: (min((x - x0) * (size / (x1 - x0)), size), min((y - y0) * (size / (y1 - y0)), size))
        for name, (x, y) in inside.items()
    }
    return RawObject(entry.id, entry.category, entry.split, entry.photo, np.asarray(square), points)


def open_image(path: Path, *, size: tuple[int, int] | None = None) -> Image.Image:
    """Read an image as RGB, rotated as its EXIF orientation asks: annotation tools show it that way.

    Args:
        path: the image file.
        size: width and height of the image that was annotated, pixels. Where only the unrotated image has this size,
            the annotation tool ignored EXIF, and the image is not rotated.

    Raises:
        UserError: no such file, not an image, damaged, or of another size.
    """
    try:
        with Image.open(path) as file:
            stored = _eight_bits(file)
            image = ImageOps.exif_transpose(stored).convert("RGB")
            stored_size = stored.size
            if size not in (None, image.size) and size == stored_size:
                image = stored.convert("RGB")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file, but an annotation names it") from None
    except Exception as error:  # Pillow raises OSError, SyntaxError, ValueError and more for damaged files
        raise UserError(f"{path}: not a readable image ({one_line(error)})") from error
    if size not in (None, image.size):
        raise UserError(f"{path}: {image.width} x {image.height} pixels, but its annotation says {size[0]} x {size[1]}")
    return image


def _eight_bits(image: Image.Image) -> Image.Image:
    """Scale 16-bit grey values to 8 bits, for Pillow's conversion clips them at 255; return other images unchanged."""
    image.load()
    if not image.mode.startswith("I"):
        return image
    reduced = Image.fromarray((np.asarray(image).clip(0, 65535) // 256).astype(np.uint8))
    reduced.info = image.info
    return reduced


def read_bytes(path: Path) -> bytes:
    """Read an annotation file. Raises UserError when it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error


def read_json(path: Path) -> Any:
    """Parse a JSON annotation. Raises UserError when it cannot be read or is not JSON."""
    try:
        return json.loads(read_bytes(path))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not readable JSON ({one_line(error)})") from error


def read_xml(path: Path) -> ElementTree.Element:
    """Parse an XML annotation and return its root element.

    Document type declarations are refused, for the entities they declare can expand to gigabytes.

    Raises:
        UserError: no such file, not XML, or a document type declaration in it.
    """

    def refuse(*_: object) -> None:
        raise ValueError("it declares a document type, which no annotation needs")

    # ElementTree's own parser offers no hook for document types, so expat feeds its builder directly.
    builder = ElementTree.TreeBuilder()
    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    try:
        parser.Parse(read_bytes(path), True)
        return builder.close()
    except (expat.ExpatError, ValueError, LookupError) as error:
        raise UserError(f"{path}: not readable XML ({one_line(error)})") from error


def as_number(value: object, where: str) -> float:
    """Convert a value of an annotation to a number; NaN and infinity are allowed.

    Args:
        value: what the annotation holds.
        where: file and field, which the message begins with.

    Raises:
        UserError: not a number.
    """
    try:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise ValueError
        return float(value)
    except (ValueError, OverflowError):
        raise UserError(f"{where} must be a number, but is {shown(value)}") from None


def as_name(value: object, where: str) -> str:
    """Check a file's or category's name in an annotation: not empty, and no path. Raises UserError with `where`."""
    if not isinstance(value, str) or not _PLAIN_NAME.fullmatch(value) or value in (".", ".."):
        raise UserError(f"{where} must be a name, but is {shown(value)}")
    return value


def as_dict(value: object, where: str) -> dict[str, Any]:
    """Check that a value is a JSON object. Raises UserError with `where`."""
    if not isinstance(value, dict):
        raise UserError(f"{where} must be an object, but is {shown(value)}")
    return value


def as_list(value: object, where: str, *, length: int | None = None) -> list[Any]:
    """Check that a value is a JSON list, of `length` items unless None. Raises UserError with `where`."""
    if not isinstance(value, list) or length not in (None, len(value)):
        items = "" if length is None else f" of {length}"
        raise UserError(f"{where} must be a list{items}, but is {shown(value)}")
    return value


def as_point(value: object, where: str) -> tuple[float, float]:
    """Convert a JSON list of two numbers to a point. Raises UserError with `where`."""
    x, y = as_list(value, where, length=2)
    return as_number(x, where), as_number(y, where)


def shown(value: object) -> str:
    """Format a value of an annotation for an error message, at most 60 characters."""
    text = "missing" if value is None else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
