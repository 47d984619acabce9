"""Splits of a user's own data: read from values, from the names of files and folders, or made by rank.

Photographs without a split are divided within each category (nmt/data/readers/by_rank.py).
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Iterable
from pathlib import Path

from nmt.data.readers.base import Entry
from nmt.data.readers.by_rank import VAL_SHARE, by_category, split_by_rank
from nmt.data.store.objects import SPLITS
from nmt.errors import UserError, nearest
from nmt.io.user_files import shown, shown_path

SHARES = {"val": 0.1, "test": 0.1}
"""shares of the photographs without a split; the rest is train"""

_WORDS = {
    "train": "train",
    "training": "train",
    "trn": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")


def as_split(value: object, where: str) -> str:
    """Read a split in any case of letters; an empty text where none is given. Raises UserError with `where`."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return ""
    split = _WORDS.get(value.strip().lower()) if isinstance(value, str) else None
    if split is None:
        raise UserError(f"{where}: no split {shown(value)}; {nearest(str(value), SPLITS)}")
    return split


def split_in_name(file: Path, raw: Path) -> str:
    """Find the split that the name of a file gives, or else that of its folders; an empty text where none does.

    Args:
        file: an annotation file below `raw`, such as ap10k-train-split1.json or valid/_annotations.coco.json.
        raw: the raw folder, whose own name does not count.

    Raises:
        UserError: a name with the words of two splits.
    """
    folders = file.relative_to(raw).parts[:-1]
    for name in (file.stem, *reversed(folders)):
        found = {_WORDS[word.lower()] for word in _WORD.findall(name) if word.lower() in _WORDS}
        if len(found) > 1:
            raise UserError(
                f"{shown_path(file)}: its name holds the words of several splits, {' and '.join(sorted(found))}; "
                "rename it to one"
            )
        if found:
            return found.pop()
    return ""


def photo_splits(entries: Iterable[Entry]) -> dict[str, str]:
    """Return photograph -> its split, empty where none is given. Raises UserError if its objects differ in theirs."""
    given: dict[str, str] = {}
    for entry in entries:
        if given.setdefault(entry.photo, entry.split) != entry.split:
            one, other = (split or "no split" for split in (given[entry.photo], entry.split))
            raise UserError(
                f"{shown_path(entry.image)}: its objects are in {one} and in {other}; an image has one split"
            )
    return given


def fill_splits(entries: Iterable[Entry], seen: Collection[str]) -> tuple[list[Entry], str]:
    """Give a split to every entry without one, and make val out of train where splits are given but none is val.

    Args:
        entries: with their split, or an empty one.
        seen: splits of all objects, those included that could not be read.

    Returns:
        The entries, and a line that says what was done; empty where every split was given.

    Raises:
        UserError: a photograph is in two splits, or some of its objects have a split and others have none.
    """
    listed = list(entries)
    given = photo_splits(listed)
    chosen, note = dict(given), ""
    without = {photo for photo, split in given.items() if not split}
    if without:
        chosen |= split_by_rank(by_category(listed, without), SHARES)
        some = "none is given" if len(without) == len(given) else f"{len(without)} of {len(given)} images have none"
        note = (
            f"splits: {some}; divided within each category: 80 % train, 10 % val, 10 % test, at least two each "
            "where there are enough"
        )
    elif "val" not in seen:
        train = {photo for photo, split in given.items() if split == "train"}
        chosen |= split_by_rank(by_category(listed, train), VAL_SHARE)
        note = "splits: none is val; a tenth of train becomes val, within each category"
    return [dataclasses.replace(entry, split=chosen[entry.photo]) for entry in listed], note
