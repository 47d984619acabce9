"""Shared parts of the readers of raw data sets: listed objects, and loading the image of one.

A reader (voc, spair, own) lists a raw data set as `Entry` objects and opens no image. `load` turns one entry into
the `RawObject` that the store takes. It needs nothing but the entry, so any process can load any part of a data set.

Two kinds of trouble are kept apart. Damage (an unreadable file, an impossible annotation) raises a `UserError` that
names the file; with `skip_bad` it is left out and counted. Objects that the protocol excludes raise `Excluded` and are
always counted.
"""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from nmt.data.readers.values import as_list, as_number
from nmt.data.store.given_pairs import GivenPair
from nmt.data.store.objects import MIN_KEYPOINTS, SPLITS
from nmt.data.store.partners import Partners
from nmt.data.store.writer import RawObject
from nmt.errors import UserError, one_line
from nmt.io.images import open_image
from nmt.io.user_files import shown, shown_path

Box = tuple[float, float, float, float]
"""x0, y0, x1, y1, pixels of the photograph"""
FEW_KEYPOINTS = f"fewer than {MIN_KEYPOINTS} keypoints"
EMPTY_BOX = "an empty box"
FEWEST_PHOTOS = 4
"""photographs that a category needs: two to train on and two to validate"""
NO_PARTNER = f"no other photograph with {MIN_KEYPOINTS} common keypoints"
UNREADABLE = "unreadable"
REMEDY = "unpack the archive again, or leave damaged files out with --skip-bad"
"""ends the message of a damaged file of a published data set"""
OUTSIDE_BOX = "keypoints outside their box"
OUTSIDE_IMAGE = "keypoints outside the image"
SHARES = "all coordinates lie between 0 and 1, but pixels are read; multiply x by the image's width and y by its height"
NOT_FINITE = "keypoints with NaN or infinite coordinates"


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
    object_box: Box | None = None
    """box of the object as annotated, by which PCK measures distances; None: it has none"""


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
    notes: list[str] = field(default_factory=list)
    """lines for the report: files that were skipped, how splits were made"""
    first_bad: str = ""
    """message of the first object that could not be read and was left out; empty: none"""

    @contextlib.contextmanager
    def leaving_out(self, *, skip_bad: bool) -> Iterator[None]:
        """Count in `left_out` an object that the block excludes or, with `skip_bad`, cannot read; see `counting`."""
        with counting(self.left_out, skip_bad=skip_bad):
            try:
                yield
            except UserError as error:
                self.first_bad = self.first_bad or str(error)
                raise

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
                raise UserError(
                    f"{shown_path(image)}: object {one_line(entry_id)} is listed {num} times; give each a different id"
                )

    def refuse_shares(self, file: Path, first: int = 0) -> None:
        """Raise UserError if all coordinates are shares of the image's sides, not pixels.

        Args:
            file: what the message names: the annotation file, or the folder of many.
            first: number of the first entry that counts.
        """
        numbers = [number for entry in self.entries[first:] for xy in entry.points.values() for number in xy]
        if numbers and all(0 <= number <= 1 for number in numbers):
            raise UserError(f"{shown_path(file)}: {SHARES}")

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
        few = self._too_few_photos()
        self.entries = [entry for entry in self.entries if entry.id in paired]
        for split in SPLITS[:2]:
            if not any(entry.split == split for entry in self.entries):
                raise UserError(
                    f"{shown_path(raw)}: no two photographs of a category with {MIN_KEYPOINTS} common keypoints in "
                    f"split {split}{self.why_few()}{few}"
                )

    def _too_few_photos(self) -> str:
        """Say so where no category has photographs for both train and val; else nothing."""
        num = Counter(category for category, _ in {(entry.category, entry.photo) for entry in self.entries})
        largest = max(sorted(num), key=num.__getitem__, default=None)
        if largest is None or num[largest] >= FEWEST_PHOTOS:
            return ""
        photographs = "1 photograph" if num[largest] == 1 else f"{num[largest]} photographs"
        return f"; {shown(largest)} has {photographs}, and needs {FEWEST_PHOTOS}, two in train and two in val"

    def why_few(self) -> str:
        """Say what was left out and how splits were made, to end the message of a data set that has too little."""
        why = f"; left out: {counted(self.left_out)}" if self.left_out else ""
        why += f"; the first unreadable one: {self.first_bad}" if self.first_bad else ""
        return why + "".join(f"; {note}" for note in self.notes)


def counted(left_out: Counter[str]) -> str:
    """Format what was left out: "6 crowds, 2 unreadable"."""
    return ", ".join(f"{num} {reason}" for reason, num in (+left_out).items())


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


def as_box(value: object, where: str) -> Box | None:
    """Convert [x, y, width, height] of an annotation, pixels, to a box; None stays None.

    Raises:
        UserError: not four numbers, with `where`.
        Excluded: it is empty or not finite.
    """
    return None if value is None else checked_box(*(as_number(side, where) for side in as_list(value, where, length=4)))


def box_if_any(value: object, *, corners: bool) -> Box | None:
    """Convert the box of an object that PCK alone needs; None where it is missing or impossible.

    Args:
        value: [left, top, right, bottom] with `corners`, [left, top, width, height] without.
    """
    with contextlib.suppress(Excluded, UserError):
        x, y, *ends = (as_number(side, "box") for side in as_list(value, "box", length=4))
        width, height = (ends[0] - x, ends[1] - y) if corners else ends
        return checked_box(x, y, width, height)
    return None


def box_around(points: Iterable[tuple[float, float]], box: Box | None = None) -> Box | None:
    """Return the smallest box that holds a box and the points; None where there is nothing to hold.

    Args:
        points: (x, y), pixels; those that are not finite do not count.
        box: None: the points alone, in a square where they lie on one line.
    """
    corners = [xy for xy in points if all(map(math.isfinite, xy))]
    corners += [] if box is None else [box[:2], box[2:]]
    if not corners:
        return None
    (x0, y0), (x1, y1) = ((pick(x for x, _ in corners), pick(y for _, y in corners)) for pick in (min, max))
    if min(x1 - x0, y1 - y0) < 1:
        half, x, y = max(x1 - x0, y1 - y0, 2) / 2, (x0 + x1) / 2, (y0 + y1) / 2
        return x - half, y - half, x + half, y + half
    return x0, y0, x1, y1


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
    x0, y0, x1, y1 = _clipped(entry.box or whole, whole)
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
    named, sides = (entry.id, entry.category, entry.split, entry.photo), None
    if entry.object_box is not None:
        left, top, right, bottom = _clipped(entry.object_box, whole)
        sides = (right - left, bottom - top) if right > left and bottom > top else None
    return RawObject(*named, np.asarray(square), points, shown=(x1 - x0, y1 - y0), box=sides)


def _clipped(box: Box, image: Box) -> Box:
    """Cut a box at the edges of the image: those of COCO and PascalVOC may reach a little beyond."""
    return max(box[0], image[0]), max(box[1], image[1]), min(box[2], image[2]), min(box[3], image[3])
