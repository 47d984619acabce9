"""The pairs of a user's own data: pairs.csv with source, target and optionally split, beside the annotations.

Source and target name objects: by id (CATEGORY/IMAGE), or by the name of an image that holds one object.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from pathlib import Path

from nmt.data.readers.base import Entry, Excluded, RawListing
from nmt.data.readers.listed_pairs import ListedPairs
from nmt.data.readers.own.image_files import ImageFiles, NoImageError, name_key
from nmt.data.readers.own.splits import as_split, photo_splits
from nmt.data.store.objects import SPLITS
from nmt.errors import UserError, nearest
from nmt.io.spreadsheet import read_table
from nmt.io.user_files import listed, shown, shown_path, visible_files

PAIRS_TABLE, COLUMNS = "pairs.csv", ("source", "target")
NO_OBJECT = "pairs with an object that is left out"
IN_NO_PAIR = "objects in no pair"
NO_TRAINING = f"no pair of {PAIRS_TABLE} is in train: the data set is for evaluation alone"


def take_pairs(listing: RawListing, raw: Path, file: Path, *, skip_bad: bool) -> None:
    """Make the pairs of pairs.csv those of a listing. Objects in no pair are left out; a split may come from a pair.

    Args:
        listing: all objects of the folder, with the splits that they were given.
        raw: the folder.
        file: its pairs.csv.
        skip_bad: leave out damaged lines instead of raising UserError.

    Raises:
        UserError: a damaged line (without `skip_bad`), or no pairs in val beside those in train.
    """
    num_objects = len(listing.entries)
    listing.files.append(file)
    found, splits, pairs = _Objects(listing.entries, raw), _Splits(listing.entries), ListedPairs()
    table = read_table(file)
    for line, row in table.records(COLUMNS):
        where = table.where(line)
        with listing.leaving_out(skip_bad=skip_bad):
            source, target = (found.named(row[side], f"{where}: {side}") for side in COLUMNS)
            _check_pair(source, target, where)
            split = splits.of_pair(as_split(row.get("split"), where), source, target, where)
            pairs.add(*(dataclasses.replace(entry, split=split) for entry in (source, target)))
    pairs.put_into(listing)
    if len(listing.entries) < num_objects:
        listing.left_out[IN_NO_PAIR] += num_objects - len(listing.entries)
    if not pairs.splits():
        raise UserError(f"{shown_path(file)}: no pair is left{listing.why_few()}")
    if "train" not in pairs.splits():
        listing.notes.append(NO_TRAINING)
    elif "val" not in pairs.splits():
        raise UserError(
            f"{shown_path(file)}: has pairs in train and none in val, which training needs; write val in the column "
            f"split of some{listing.why_few()}"
        )


def _check_pair(source: Entry, target: Entry, where: str) -> None:
    """Raise UserError for two objects that cannot be a pair."""
    if source.id == target.id:
        raise UserError(f"{where}: pairs {shown(source.id)} with itself")
    if source.photo == target.photo:
        raise UserError(f"{where}: {shown(source.id)} and {shown(target.id)} are in one image; a pair joins two images")
    if source.category != target.category:
        raise UserError(
            f"{where}: {shown(source.id)} and {shown(target.id)} are of two categories; a pair joins two objects of one"
        )


class _Splits:
    """The split of each photograph: as annotated, or that of its first pair."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        given = photo_splits(entries)
        self._known = {photo: (split, "by its annotation") for photo, split in given.items() if split}

    def of_pair(self, given: str, source: Entry, target: Entry, where: str) -> str:
        """Return the split of a pair, which its photographs keep.

        Args:
            given: the split that the pair's line names; empty: that of its images.

        Raises:
            UserError: none is known, or the images are in another one.
        """
        known = [(entry, *self._known[entry.photo]) for entry in (source, target) if entry.photo in self._known]
        split = given or next((split for _, split, _ in known), "")
        if not split:
            raise UserError(f"{where}: the pair has no split, nor have its images; write {', '.join(SPLITS)} in split")
        for entry, other, by in known:
            if other != split:
                raise UserError(
                    f"{where}: a pair in {split}, but {shown(entry.photo)} is in {other} ({by}); an image has one split"
                )
        for entry in (source, target):
            self._known.setdefault(entry.photo, (split, f"by {where.rpartition(', ')[2]}"))
        return split


class _Objects:
    """The objects of a folder, by their ids and by the names of their images."""

    def __init__(self, entries: Sequence[Entry], raw: Path) -> None:
        self._by_id = {entry.id: entry for entry in entries}
        self._by_name: dict[str, list[Entry]] = {}
        for entry in entries:
            names = {entry.id, entry.photo, entry.image.name, entry.image.relative_to(raw).as_posix()}
            for key in {name_key(name) for name in names}:
                self._by_name.setdefault(key, []).append(entry)
        self._raw = raw
        self._images = ImageFiles(raw)

    def named(self, name: str, where: str) -> Entry:
        """Find the one object that a cell names.

        Raises:
            Excluded: it is an image, or an object in one, that was left out.
            UserError: none, or several.
        """
        if name in self._by_id:
            return self._by_id[name]
        found = self._by_name.get(name_key(name), [])
        if len(found) == 1:
            return found[0]
        if found:
            ids = listed(shown(entry.id) for entry in found)
            raise UserError(f"{where}: {shown(name)} may be {ids}; write the id of one")
        category, _, rest = name.partition("/")
        of_object = [rest.partition("#")[0]] if category in {entry.category for entry in self._by_id.values()} else []
        for image in (name, *of_object):
            with contextlib.suppress(NoImageError):
                self._images.find(image, where, beside=self._raw / PAIRS_TABLE)
                raise Excluded(NO_OBJECT)
        raise UserError(f"{where}: no image or object {shown(name)}{self._hint(name)}")

    def _hint(self, name: str) -> str:
        """Name the nearest image or object; where none is near, the first image."""
        images = [entry.photo for entry in self._by_id.values()]
        hint = nearest(name, {*images, *self._by_id})
        if hint.startswith("did you mean"):
            return f"; {hint}"
        return (
            f"; write the name of an image, such as {shown(images[0])}" if images else "; no object has two keypoints"
        )


def pairs_file(raw: Path) -> Path | None:
    """Return pairs.csv of a folder, in any case of letters; None if there is none."""
    return next(iter(visible_files(raw, PAIRS_TABLE)), None)
