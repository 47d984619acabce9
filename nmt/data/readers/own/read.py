"""Reader of a user's own labelled images, in whichever format their tool writes (docs/data.md lists them).

The content of a file decides its format, not its name. Files that hold no keypoints (captions, sizes, label maps) are
skipped with a line in the report. Coordinates are pixels of the image as viewers show it, EXIF orientation applied.

`mirror.csv` (category, left, right) is optional. It lists the keypoints that swap names in a mirrored image.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from nmt.data.readers.base import FEW_KEYPOINTS, Entry, Excluded, RawListing, points_within
from nmt.data.readers.own import coco, json_list, table
from nmt.data.readers.own.image_files import ImageFiles
from nmt.data.readers.own.source import Format, Source
from nmt.data.readers.own.splits import fill_splits, split_in_name
from nmt.data.store.objects import MIN_KEYPOINTS
from nmt.errors import UserError
from nmt.io.spreadsheet import Table, read_table
from nmt.io.user_files import is_file, is_folder, listed, read_json, visible_files

FORMATS: tuple[Format, ...] = (table, json_list, coco)
LOOKED_FOR = "looked for *.csv (image,category,keypoint,x,y), *.json or annotations/*.json (COCO, or a list of objects)"

_TABLES, _JSON = ("*.csv", "*.tsv"), "*.json"
_SHEETS = ("*.xlsx", "*.xls", "*.ods", "*.numbers")
_FOLDERS = ("", "annotations", "train", "training", "val", "valid", "validation", "test", "testing")
"""folders below the raw one that may hold annotation files"""


def read(raw: Path, *, skip_bad: bool, clip_to_box: bool = False) -> RawListing:
    """List the objects in a folder.

    Args:
        raw: the folder.
        skip_bad: leave damaged annotations out instead of raising UserError.
        clip_to_box: cut COCO's objects at their box and drop keypoints outside; otherwise the box is enlarged.

    Raises:
        UserError: no annotations, damage (without `skip_bad`), an id or split given twice, or no pairs.
    """
    listing, images = RawListing(), ImageFiles(raw)
    splits, seen = dict[Path, str](), set[str]()
    for file, kind, content in _annotations(raw, listing):
        splits[file] = split_in_name(file, raw)
        source = Source(file, content, images, splits[file], clip_to_box, listing.notes, seen)
        listing.files.append(file)
        first = len(listing.entries)
        for make in kind.entries(source):
            with listing.leaving_out(skip_bad=skip_bad):
                listing.entries.append(_checked(make(), listing.left_out))
        _refuse_shares(file, listing.entries[first:])
    _note_splits(listing, splits, raw)
    listing.check_ids()
    listing.entries, note = fill_splits(listing.entries, seen)
    listing.notes += [note] if note else []
    listing.notes += table.spelling_notes(listing.keypoint_names())
    listing.drop_unpaired(raw)
    if (mirror := raw / table.MIRROR_FILE).is_file():
        listing.files.append(mirror)
        listing.mirror = table.read_mirror(mirror, listing.keypoint_names())
    return listing


def _checked(entry: Entry, left_out: Counter[str]) -> Entry:
    """Drop the keypoints of an entry that lie outside its box, and count them in `left_out`.

    Raises:
        Excluded: fewer than two keypoints are left.
    """
    points = points_within(entry.points, entry.box, left_out)
    if len(points) < MIN_KEYPOINTS:
        raise Excluded(FEW_KEYPOINTS)
    return dataclasses.replace(entry, points=points)


def _annotations(raw: Path, listing: RawListing) -> Iterator[tuple[Path, Format, Any]]:
    """Yield the annotation files with their formats; what holds no keypoints is named in the notes.

    Raises:
        UserError: no file with keypoints, a damaged one, or tables and JSON with keypoints side by side.
    """
    if not is_folder(raw):
        raise UserError(f"{raw}: {'is a file; give the folder that holds it' if is_file(raw) else 'does not exist'}")
    found: list[tuple[Path, Format, Any]] = []
    skipped: dict[Path, str] = {}
    for file, content in _candidates(raw):
        kind = next((kind for kind in FORMATS if kind.recognises(content)), None)
        if kind is None or (kind is coco and not coco.has_keypoints(content)):
            skipped[file] = _why_skipped(content)
        else:
            found.append((file, kind, content))
    tables, others = ([file for file, kind, _ in found if (kind is table) == wanted] for wanted in (True, False))
    if tables and others:
        raise UserError(
            f"{raw}: it holds both {tables[0].name} and {others[0].name}; keep the one that holds the keypoints"
        )
    if not found:
        raise _nothing_found(raw, skipped)
    if skipped:
        listing.notes.append(f"skipped, no keypoints in it: {listed(str(file.relative_to(raw)) for file in skipped)}")
    yield from found


def _why_skipped(content: Any) -> str:
    """Say what a file lacks to be a file of keypoints."""
    if isinstance(content, Table):
        missing = ", ".join(content.missing(table.COLUMNS))
        return f"no column {missing}; the first line names them: {','.join(table.COLUMNS)}"
    return coco.NO_NAMES if coco.recognises(content) else f"no keypoints; expected {coco.NAME}, or {json_list.NAME}"


def _candidates(raw: Path) -> Iterator[tuple[Path, Any]]:
    """Yield the files that may be annotations, parsed. Raises UserError for a damaged one."""
    for folder in _FOLDERS:
        for pattern in _TABLES:
            for file in visible_files(raw / folder, pattern):
                if file != raw / table.MIRROR_FILE:
                    yield file, read_table(file)
        for file in visible_files(raw / folder, _JSON):
            yield file, read_json(file)


def _nothing_found(raw: Path, skipped: Mapping[Path, str]) -> UserError:
    """Make the error of a folder without keypoints; it names what is nearest to them."""
    for file, why in skipped.items():
        return UserError(f"{file}: {why}")
    for file in (file for pattern in (*_TABLES, _JSON) for file in visible_files(raw, f"*/{pattern}")):
        return UserError(f"{raw}: no annotations in it, but in the folder below, {file}; give --raw {file.parent}")
    for file in (file for pattern in _SHEETS for file in visible_files(raw, pattern)):
        return UserError(f"{file}: a spreadsheet; save its table as CSV beside it, with {','.join(table.COLUMNS)}")
    return UserError(f"{raw}: no annotations of keypoints; {LOOKED_FOR}")


def _refuse_shares(file: Path, entries: Sequence[Entry]) -> None:
    """Raise UserError if all coordinates of a file are shares of the image's sides, not pixels."""
    numbers = [number for entry in entries for xy in entry.points.values() for number in xy]
    if numbers and all(0 <= number <= 1 for number in numbers):
        raise UserError(
            f"{file}: all coordinates lie between 0 and 1, but pixels are read; multiply x by the image's width and y "
            "by its height"
        )


def _note_splits(listing: RawListing, splits: Mapping[Path, str], raw: Path) -> None:
    """Note which split the name of each annotation file gave."""
    by_split: dict[str, list[str]] = {}
    for file, split in splits.items():
        if split:
            by_split.setdefault(split, []).append(str(file.relative_to(raw)))
    if by_split:
        listing.notes.append(
            "splits by file name: " + "; ".join(f"{split} from {listed(files)}" for split, files in by_split.items())
        )
