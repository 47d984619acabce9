"""What the readers of raw data sets share: objects as annotations describe them, and how their images are read.

A reader (voc, spair, own) lists a raw data set as `Entry`s without opening an image; `load` turns one entry into the
`RawObject` the store takes, on its own, so entries can be loaded in any process. What goes wrong is of two kinds:
damage (an unreadable file, an annotation that makes no sense) is a `UserError` that names the file, or is left out and
counted where the user asked for that; what the protocol leaves out raises `Excluded` and is always counted.
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
from nmt.data.store.writer import RawObject
from nmt.errors import UserError, one_line

Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 in pixels of the photograph"""
FEW_KEYPOINTS = f"fewer than {MIN_KEYPOINTS} keypoints"
EMPTY_BOX = "an empty box"
NO_PARTNER = f"no other photograph with {MIN_KEYPOINTS} common keypoints"
UNREADABLE = "unreadable"

_PLAIN_NAME = re.compile(r"[^/\\\0]+")


class Excluded(Exception):
    """An object the protocol leaves out; the message is the reason it is counted under."""


@dataclass(frozen=True)
class Entry:
    """One object of a raw data set, its image not read yet."""

    id: str
    category: str
    split: str
    photo: str
    image: Path
    points: Mapping[str, tuple[float, float]]
    """keypoint name -> (x, y) pixels of the photograph"""
    box: Box | None = None
    """what is cut out of the photograph; None: all of it"""
    size: tuple[int, int] | None = None
    """width and height the annotation was made at, where it is to be trusted"""


@dataclass
class RawListing:
    """A raw data set, listed."""

    entries: list[Entry] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    """every file the entries were read from, without the images"""
    left_out: Counter[str] = field(default_factory=Counter)
    """reason -> objects (or pairs, as the reason says)"""
    pairs: list[GivenPair] | None = None
    """None: pairs are drawn from the objects"""
    mirror: dict[str, dict[str, str]] = field(default_factory=dict)
    """category -> keypoint name -> its name when the image is mirrored; names that stay are left out"""

    @contextlib.contextmanager
    def leaving_out(self, *, skip_bad: bool) -> Iterator[None]:
        """Counts what the block excludes and, with `skip_bad`, what it cannot read."""
        with counting(self.left_out, skip_bad=skip_bad):
            yield

    def keypoint_names(self) -> dict[str, list[str]]:
        """category -> keypoint names, both sorted; numbers by value."""
        names: dict[str, set[str]] = {}
        for entry in self.entries:
            names.setdefault(entry.category, set()).update(entry.points)
        return {category: sorted(names[category], key=_natural) for category in sorted(names)}

    def input_files(self) -> list[Path]:
        """Every file the data set is made from."""
        images = {entry.image for entry in self.entries if entry.image.is_file()}
        return sorted({*self.files, *images})

    def check_ids(self) -> None:
        """Raises UserError when two entries have one id."""
        for entry_id, num in Counter(entry.id for entry in self.entries).items():
            if num > 1:
                image = next(entry.image for entry in self.entries if entry.id == entry_id)
                raise UserError(f"{image}: object {entry_id} is there {num} times; each must have a name of its own")

    def drop_unpaired(self, raw: Path) -> None:
        """Leaves out the objects no pair can be made with.

        Raises:
            UserError: nothing to train on, or nothing to validate on, is left.
        """
        groups: dict[tuple[str, str], list[Entry]] = {}
        for entry in self.entries:
            groups.setdefault((entry.split, entry.category), []).append(entry)
        paired = {entry.id for group in groups.values() for entry in group if _has_partner(entry, group)}
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
    """Counts in `left_out` what the block excludes and, with `skip_bad`, what it cannot read."""
    try:
        yield
    except Excluded as reason:
        left_out[str(reason)] += 1
    except UserError:
        if not skip_bad:
            raise
        left_out[UNREADABLE] += 1


def _natural(name: str) -> tuple[int, int, str]:
    return (0, int(name), name) if name.isascii() and name.isdigit() else (1, 0, name)


def _has_partner(entry: Entry, group: list[Entry]) -> bool:
    names = entry.points.keys()
    return any(other.photo != entry.photo and len(names & other.points.keys()) >= MIN_KEYPOINTS for other in group)


def carve(photo: str, shares: Mapping[str, int]) -> str:
    """The split of a photograph by its name alone; `shares` in percent, of 100 together."""
    place = stable_hash(photo) % 100
    for split, share in shares.items():
        place -= share
        if place < 0:
            return split
    raise AssertionError(f"shares {shares} are less than 100 %")


def points_within(points: Mapping[str, tuple[float, float]], box: Box | None) -> dict[str, tuple[float, float]]:
    """The keypoints that lie in the box (None: anywhere); never those that are NaN or infinite."""
    x0, y0, x1, y1 = box or (-math.inf, -math.inf, math.inf, math.inf)
    return {
        name: (x, y)
        for name, (x, y) in points.items()
        if math.isfinite(x) and math.isfinite(y) and x0 <= x <= x1 and y0 <= y <= y1
    }


def checked_box(x: float, y: float, width: float, height: float) -> Box:
    """A box from its corner and size. Raises Excluded when it holds nothing."""
    if not all(map(math.isfinite, (x, y, width, height))) or width <= 0 or height <= 0:
        raise Excluded(EMPTY_BOX)
    return x, y, x + width, y + height


def load(entry: Entry, *, size: int) -> RawObject:
    """The object as the store takes it: cut out, resized to the square, its keypoints with it.

    Raises:
        UserError: the image cannot be read.
        Excluded: too few keypoints lie in the image, or none of the box does.
    """
    image = open_image(entry.image, size=entry.size)
    x0, y0, x1, y1 = entry.box or (0.0, 0.0, float(image.width), float(image.height))
    x0, y0, x1, y1 = max(x0, 0.0), max(y0, 0.0), min(x1, float(image.width)), min(y1, float(image.height))
    if x1 - x0 < 1 or y1 - y0 < 1:
        raise Excluded(EMPTY_BOX)
    inside = points_within(entry.points, (x0, y0, x1, y1))
    if len(inside) < MIN_KEYPOINTS:
        raise Excluded(FEW_KEYPOINTS)
    square = image.resize((size, size), Image.Resampling.BICUBIC, box=(x0, y0, x1, y1))
    points = {
        name: (min((x - x0) * (size / (x1 - x0)), size), min((y - y0) * (size / (y1 - y0)), size))
        for name, (x, y) in inside.items()
    }
    return RawObject(entry.id, entry.category, entry.split, entry.photo, np.asarray(square), points)


def open_image(path: Path, *, size: tuple[int, int] | None = None) -> Image.Image:
    """The image in RGB, turned as its EXIF orientation says, which is how it was seen when it was annotated.

    Args:
        size: width and height it was annotated at; where they are those of the unturned image, it is not turned.

    Raises:
        UserError: not an image, damaged, or of another size.
    """
    try:
        with Image.open(path) as file:
            stored = _eight_bits(file)
            image = ImageOps.exif_transpose(stored).convert("RGB")
            stored_size = stored.size
            if size not in (None, image.size) and size == stored_size:
                image = stored.convert("RGB")
    except FileNotFoundError:
        raise UserError(f"{path}: not there, but an annotation names it") from None
    except Exception as error:  # Pillow raises OSError, SyntaxError, ValueError and more for damaged files
        raise UserError(f"{path}: not a readable image ({one_line(error)})") from error
    if size not in (None, image.size):
        raise UserError(f"{path}: {image.width} x {image.height} pixels, but its annotation says {size[0]} x {size[1]}")
    return image


def _eight_bits(image: Image.Image) -> Image.Image:
    """Sixteen-bit greys as eight bits (Pillow would cut them off at 255); other images as they are."""
    image.load()
    if not image.mode.startswith("I"):
        return image
    reduced = Image.fromarray((np.asarray(image).clip(0, 65535) // 256).astype(np.uint8))
    reduced.info = image.info
    return reduced


def read_bytes(path: Path) -> bytes:
    """The content of an annotation. Raises UserError."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error


def read_json(path: Path) -> Any:
    """The content of a JSON annotation. Raises UserError."""
    try:
        return json.loads(read_bytes(path))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not readable JSON ({one_line(error)})") from error


def read_xml(path: Path) -> ElementTree.Element:
    """The root of an XML annotation. Declarations of a document type are refused: entities could expand without end.

    Raises:
        UserError: not there, not XML, or with a document type.
    """

    def refuse(*_: object) -> None:
        raise ValueError("a document type declaration, which annotations have no use for")

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
    """A number of an annotation, NaN and infinity included. Raises UserError with `where`."""
    try:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise ValueError
        return float(value)
    except (ValueError, OverflowError):
        raise UserError(f"{where} must be a number, but is {shown(value)}") from None


def as_name(value: object, where: str) -> str:
    """The name of a file or a category in an annotation: not empty, and no path. Raises UserError with `where`."""
    if not isinstance(value, str) or not _PLAIN_NAME.fullmatch(value) or value in (".", ".."):
        raise UserError(f"{where} must be a name, but is {shown(value)}")
    return value


def as_dict(value: object, where: str) -> dict[str, Any]:
    """A JSON object. Raises UserError with `where`."""
    if not isinstance(value, dict):
        raise UserError(f"{where} must be an object, but is {shown(value)}")
    return value


def as_list(value: object, where: str, *, length: int | None = None) -> list[Any]:
    """A JSON list, of `length` items where given. Raises UserError with `where`."""
    if not isinstance(value, list) or length not in (None, len(value)):
        items = "" if length is None else f" of {length}"
        raise UserError(f"{where} must be a list{items}, but is {shown(value)}")
    return value


def as_point(value: object, where: str) -> tuple[float, float]:
    """Two numbers. Raises UserError with `where`."""
    x, y = as_list(value, where, length=2)
    return as_number(x, where), as_number(y, where)


def shown(value: object) -> str:
    """A value of an annotation, short enough for an error message."""
    text = "missing" if value is None else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
