"""The readers of raw data sets by name, and what a reader gives: pieces of work that any process can do.

`register_reader` adds one, of the project or of an extension (nmt/extensions.py).
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nmt.data.readers.base import Entry, RawListing, counting, load
from nmt.data.store.given_pairs import GivenPair
from nmt.data.store.photographs import CROPS
from nmt.data.store.writer import RawObject
from nmt.errors import UserError
from nmt.extensions import Registry
from nmt.io.user_files import is_file

Loaded = tuple[list[RawObject], Counter[str]]
"""objects, and reason -> number of objects, or of keypoints where the reason names them, that were left out"""


@dataclass(frozen=True)
class Photograph:
    """A whole photograph that objects are cut out of."""

    name: str
    split: str
    """train or val"""
    image: Path
    size: tuple[int, int] | None
    """width and height of the image that was annotated, pixels; None: not given"""


@dataclass(frozen=True)
class RawDataSet:
    """Everything that `prepare` needs from a reader."""

    fingerprint: Callable[[], str]
    """hash of everything the data set is made from"""
    keypoint_names: Callable[[], dict[str, list[str]]]
    """category -> names of its keypoints"""
    tasks: Sequence[Any]
    """units of work in the order of the data set; each yields one object, several, or none"""
    load: Callable[[Any], Loaded]
    """function that does one unit of work, in any process"""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """reason -> number of objects, pairs or keypoints that were left out before `tasks` was made"""
    options: dict[str, Any] = field(default_factory=dict)
    """reader options, recorded in the data set"""
    pairs: Sequence[GivenPair] | None = None
    """given pairs, by object id; None: pairs are drawn"""
    mirror: dict[str, dict[str, str]] = field(default_factory=dict)
    """category -> keypoint name -> its name in the mirrored image; names that do not change are omitted"""
    notes: Sequence[str] = ()
    """lines for the report: files that were skipped, how splits were made"""
    photographs: Sequence[Photograph] = ()
    """photographs of train and val that objects are cut out of; empty where an object's image is the photograph"""
    every_split: bool = True
    """True: every category needs a pair in every split; False: a split may lack some categories"""


@dataclass(frozen=True)
class ReadOptions:
    """Options for reading a raw data set."""

    name: str
    """data.name: one reader may serve several"""
    size: int
    """side of the square images, pixels"""
    skip_bad: bool
    """leave damaged files and annotations out and count them, instead of raising UserError"""
    seed: int
    """seed of what is random in making the objects"""
    difficulty: Mapping[str, Sequence[int]] = field(default_factory=dict)
    """levels of given pairs to keep; empty: all"""
    clip_to_box: bool = False
    """cut COCO's objects at their box, and drop keypoints outside; by default the box grows to hold them"""


Reader = Callable[[Path | None, ReadOptions], RawDataSet]
"""Lists the raw data set in a folder (None where --raw is not given). Raises UserError for what it cannot read."""

READERS: Registry[Reader] = Registry("reader of a data set")
_SURROGATE = re.compile("[\ud800-\udfff]")
"""half of a character: a byte of a file name that is not UTF-8, or a broken escape in JSON"""
_NO_CONTENT = "no content"
"""stands for the hash of a file that cannot be read"""
WITH_DIFFICULTY: set[str] = set()
"""Names of the data sets whose given pairs have levels of difficulty."""


def register_reader(name: str, *, difficulty: bool = False) -> Callable[[Reader], Reader]:
    """Register the decorated function as the reader of the data set `name`.

    Args:
        name: data.name, as in `--prepare NAME`.
        difficulty: it reads `ReadOptions.difficulty`; without, `--difficulty` is refused.
    """

    def register(reader: Reader) -> Reader:
        READERS.add(name, reader)
        if difficulty:
            WITH_DIFFICULTY.add(name)
        return reader

    return register


def files_fingerprint(files: list[Path]) -> str:
    """Hash the content, name and folder of each file: 16 hex digits.

    A file that is missing or cannot be read counts as `_NO_CONTENT`; reading it for its objects raises the error.
    """
    total = hashlib.sha256()
    for path in files:
        # Names may hold lone surrogates: bytes of a name that is not UTF-8, or \ud800 in JSON.
        total.update(f"{path.parent.name}/{path.name}\0{_content_hash(path)}\0".encode(errors="surrogatepass"))
    return total.hexdigest()[:16]


def _content_hash(path: Path) -> str:
    if not is_file(path):  # opening a pipe would wait for ever
        return _NO_CONTENT
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return _NO_CONTENT


def listed(listing: RawListing, options: ReadOptions, **recorded: Any) -> RawDataSet:
    """Return the raw data set of a listing: one object per entry, cut out and resized by the project.

    Args:
        recorded: what the prepared data set says of how it was read; another value makes it anew.

    Raises:
        UserError: a name that cannot be stored.
    """
    for entry in listing.entries:
        for name in (entry.category, *entry.points, entry.photo, entry.id):
            if _SURROGATE.search(name):
                raise UserError(
                    f"{str(entry.image)!a}: its annotation has the name {name!a}, which is not text "
                    f"(half a character); rename it"
                )
    photographs = _photographs(listing)
    return RawDataSet(
        fingerprint=lambda: files_fingerprint(listing.input_files()),
        keypoint_names=listing.keypoint_names,
        tasks=listing.entries,
        load=functools.partial(_load_entry, size=options.size, skip_bad=options.skip_bad),
        left_out=listing.left_out,
        options=recorded | ({CROPS: True} if photographs else {}),
        pairs=listing.pairs,
        mirror=listing.mirror,
        notes=listing.notes,
        photographs=photographs,
        every_split=False,
    )


def _photographs(listing: RawListing) -> list[Photograph]:
    """List the photographs of train and val, by name; none where no object is cut out."""
    if all(entry.box is None for entry in listing.entries):
        return []
    found = {e.photo: Photograph(e.photo, e.split, e.image, e.size) for e in listing.entries if e.split != "test"}
    return [found[name] for name in sorted(found)]


def _load_entry(entry: Entry, *, size: int, skip_bad: bool) -> Loaded:
    objects, left_out = list[RawObject](), Counter[str]()
    with counting(left_out, skip_bad=skip_bad):
        objects.append(load(entry, size=size, left_out=left_out))
    return objects, left_out
