"""Splits of a user's own data: read from values, from the names of files and folders, or made by rank.

Photographs without a split are divided by the rank of a hash of their names, within each category. A small set thus
keeps at least two photographs in each split, which a hash of single names cannot promise.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from nmt.data.readers.base import Entry
from nmt.data.store.objects import MIN_KEYPOINTS, SPLITS, stable_hash
from nmt.errors import UserError, nearest
from nmt.io.user_files import shown, shown_path

SHARES = {"val": 0.1, "test": 0.1}
"""shares of the photographs without a split; the rest is train"""
VAL_SHARE = {"val": 0.1}
"""share of train that becomes val where splits are given and none is val"""
LEAST = 2
"""photographs of a category that a split needs: one makes no pair"""

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
    given: dict[str, str] = {}
    listed = list(entries)
    for entry in listed:
        if given.setdefault(entry.photo, entry.split) != entry.split:
            one, other = (split or "no split" for split in (given[entry.photo], entry.split))
            raise UserError(
                f"{shown_path(entry.image)}: its objects are in {one} and in {other}; an image has one split"
            )
    chosen, note = dict(given), ""
    without = {photo for photo, split in given.items() if not split}
    if without:
        chosen |= split_by_rank(_by_category(listed, without), SHARES)
        some = "none is given" if len(without) == len(given) else f"{len(without)} of {len(given)} images have none"
        note = (
            f"splits: {some}; divided within each category: 80 % train, 10 % val, 10 % test, at least two each "
            "where there are enough"
        )
    elif "val" not in seen:
        train = {photo for photo, split in given.items() if split == "train"}
        chosen |= split_by_rank(_by_category(listed, train), VAL_SHARE)
        note = "splits: none is val; a tenth of train becomes val, within each category"
    return [dataclasses.replace(entry, split=chosen[entry.photo]) for entry in listed], note


def _by_category(entries: Iterable[Entry], photos: set[str]) -> dict[str, dict[str, set[str]]]:
    """Return category -> photograph -> keypoints of its objects."""
    found: dict[str, dict[str, set[str]]] = {}
    for entry in entries:
        if entry.photo in photos:
            found.setdefault(entry.category, {}).setdefault(entry.photo, set()).update(entry.points)
    return found


def split_by_rank(photos: Mapping[str, Mapping[str, set[str]]], shares: Mapping[str, float]) -> dict[str, str]:
    """Divide photographs within each category by the rank of a hash of their names.

    A split with a share gets at least two photographs of a category, where two are left for train. Rare categories
    choose first: a photograph with several categories counts for all of them.

    Args:
        photos: category -> photograph -> names of its keypoints; photographs of a split share at least two.
        shares: split -> share; the rest is train. Earlier splits are filled first.

    Returns:
        Photograph -> split.
    """
    chosen: dict[str, str] = {}
    # How many photographs of each category may leave train: a pick for one must not use up those of another.
    room = {category: len(of_category) - LEAST for category, of_category in photos.items()}
    for category in sorted(photos, key=lambda name: (len(photos[name]), name)):
        ranked = sorted(photos[category], key=lambda photo: stable_hash(f"{category}/{photo}"))
        for split, share in shares.items():
            wanted = max(LEAST, round(share * len(ranked))) - sum(chosen.get(photo) == split for photo in ranked)
            free = [photo for photo in ranked if photo not in chosen]
            free = [photo for photo in free if all(room[c] >= wanted for c in photos if photo in photos[c])]
            picked = _pick(free, wanted, photos[category]) if wanted > 0 else []
            chosen |= dict.fromkeys(picked, split)
            for other, of_other in photos.items():
                room[other] -= sum(photo in of_other for photo in picked)
    return {photo: chosen.get(photo, "train") for of_category in photos.values() for photo in of_category}


def _pick(free: Sequence[str], wanted: int, keypoints: Mapping[str, set[str]]) -> list[str]:
    """Pick the first photographs that share at least two keypoints with one of them; none where too few do."""
    for first in free:
        partners = [p for p in free if p != first and len(keypoints[p] & keypoints[first]) >= MIN_KEYPOINTS]
        if len(partners) >= wanted - 1:
            return [first, *partners[: wanted - 1]]
    return []
