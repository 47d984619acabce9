"""Reader of a user's own labelled images, in whichever format their tool writes (docs/data.md lists them).

The content of a file decides its format, not its name. Files that hold no keypoints (captions, sizes, label maps) are
skipped with a line in the report. Coordinates are pixels of the image as viewers show it, EXIF orientation applied.

`mirror.csv` (category, left, right) is optional. It lists the keypoints that swap names in a mirrored image. So is
`pairs.csv` (source, target, split): with it, the pairs are given, not drawn.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from nmt.data.readers.base import FEW_KEYPOINTS, Entry, Excluded, RawListing, points_within
from nmt.data.readers.own import coco, cub, cvat, deeplabcut, foreign, json_list, label_studio, labelme, table
from nmt.data.readers.own.candidates import candidates, files_below, nested
from nmt.data.readers.own.image_files import ImageFiles
from nmt.data.readers.own.pairs import pairs_file, take_pairs
from nmt.data.readers.own.source import Format, Source
from nmt.data.readers.own.splits import fill_splits, split_in_name
from nmt.data.store.objects import MIN_KEYPOINTS
from nmt.errors import UserError
from nmt.io.spreadsheet import Table, read_table
from nmt.io.user_files import is_file, is_folder, listed, shown, shown_path, visible_files

FORMATS: tuple[Format, ...] = (table, deeplabcut, cvat, cub, labelme, label_studio, json_list, coco)
LOOKED_FOR = (
    "looked for *.csv (image,category,keypoint,x,y, or DeepLabCut's), *.json or annotations/*.json (COCO, LabelMe, "
    "Label Studio, or a list of objects), CVAT's annotations.xml and CUB-200's parts/part_locs.txt"
)

_ABOVE = ("*.csv", "*.tsv", "*.json", "annotations.xml")
"""annotations that may lie beside a folder images/"""
_SHEETS = ("*.xlsx", "*.xls", "*.ods", "*.numbers")
_OTHER_TABLES = ("*.txt", "*.tab")
"""names that tables may have; only *.csv and *.tsv are looked for"""
_PART = re.compile(r"split[-_]?\d+")
"""AP-10K divides its images in three ways, in files such as ap10k-train-split1.json"""
_NESTED: tuple[Format, ...] = (labelme, deeplabcut)
"""formats with a file per image or per video, which may lie in any folder"""


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
    splits, seen, met = dict[Path, str](), set[str](), set[str]()
    first_of: dict[object, Path] = {}
    for file, kind, content in _annotations(raw, listing, skip_bad=skip_bad):
        splits[file] = _split_of(file, kind, raw)
        source = Source(
            file,
            content,
            images,
            split=splits[file],
            clip_to_box=clip_to_box,
            notes=listing.notes,
            splits_seen=seen,
            files=listing.files,
        )
        listing.files.append(file)
        first = len(listing.entries)
        for make in kind.entries(source):
            with listing.leaving_out(skip_bad=skip_bad):
                entry = make()
                met.add(entry.category)
                listing.entries.append(_checked(entry, listing.left_out))
        listing.refuse_shares(file, first)
        _refuse_twins(file, listing.entries[first:], first_of)
    _note_splits(listing, splits, raw)
    listing.check_ids()
    listing.notes += table.spelling_notes(listing.keypoint_names())
    if (given := pairs_file(raw)) is not None:
        take_pairs(listing, raw, given, skip_bad=skip_bad)
    else:
        _draw_pairs(listing, seen, met, raw)
    if (mirror := raw / table.MIRROR_FILE).is_file():
        listing.files.append(mirror)
        listing.mirror = table.read_mirror(mirror, listing.keypoint_names())
    return listing


def _draw_pairs(listing: RawListing, seen: Collection[str], met: Collection[str], raw: Path) -> None:
    """Give every object a split, and leave out those that cannot be paired in theirs.

    Args:
        seen: splits of all objects, those included that are left out.
        met: categories of all objects.
    """
    listing.entries, note = fill_splits(listing.entries, seen)
    listing.notes += [note] if note else []
    listing.drop_unpaired(raw)
    if lost := sorted(set(met) - {entry.category for entry in listing.entries}):
        listing.notes.append(
            f"nothing is left of {listed(map(shown, lost))}: in a split, a category needs two photographs with "
            f"{MIN_KEYPOINTS} common keypoints"
        )


def _checked(entry: Entry, left_out: Counter[str]) -> Entry:
    """Drop the keypoints of an entry that lie outside its box, and count them in `left_out`.

    Raises:
        Excluded: fewer than two keypoints are left.
    """
    points = points_within(entry.points, entry.box, left_out)
    if len(points) < MIN_KEYPOINTS:
        raise Excluded(FEW_KEYPOINTS)
    return dataclasses.replace(entry, points=points)


def _annotations(raw: Path, listing: RawListing, *, skip_bad: bool) -> Iterator[tuple[Path, Format, Any]]:
    """Yield the annotation files with their formats; what holds no keypoints is named in the notes.

    Raises:
        UserError: no file with keypoints, a damaged one, or tables and JSON with keypoints side by side.
    """
    if not is_folder(raw):
        absent = "does not exist; --raw names the folder of the images and their annotations"
        raise UserError(f"{shown_path(raw)}: {'is a file; give the folder that holds it' if is_file(raw) else absent}")
    found: list[tuple[Path, Format, Any]] = []
    foreigners: dict[Path, str] = {}
    skipped: dict[Path, str] = {}
    damaged: dict[Path, UserError] = {}
    for file, content in candidates(raw):
        kind = next((kind for kind in FORMATS if kind.recognises(content)), None)
        if isinstance(content, UserError):
            damaged[file] = content
        elif (instead := foreign.instead(content)) is not None:
            foreigners[file] = instead
        elif kind is None or (kind is coco and not coco.has_keypoints(content)):
            skipped[file] = _why_skipped(content)
        else:
            found.append((file, kind, content))
    if all(kind in _NESTED for _, kind, _ in found):
        below = dict(nested(raw, {*foreigners, *skipped, *damaged, *(file for file, _, _ in found)}))
        damaged |= {file: content for file, content in below.items() if isinstance(content, UserError)}
        deeper = [(file, kind, below[file]) for file in below for kind in _NESTED if kind.recognises(below[file])]
        if deeper:
            folders = dict.fromkeys(shown_path(file.parent.relative_to(raw)) for file, _, _ in deeper)
            listing.notes.append(f"{deeper[0][1].NAME} was found in folders below: {listed(folders)}")
        found += deeper
    # LabelMe's files hold one image each: a damaged one is one damaged image. Others would lose a whole split.
    one_image_each = bool(found) and all(kind is labelme for _, kind, _ in found)
    for error in damaged.values():
        with listing.leaving_out(skip_bad=skip_bad and one_image_each):
            raise error
    first_of = {kind: file for file, kind, _ in reversed(found)}
    if len(first_of) > 1:
        one, other = (shown_path(file.relative_to(raw)) for file in list(first_of.values())[:-3:-1])
        raise UserError(f"{shown_path(raw)}: it holds both {one} and {other}; keep the one that holds the keypoints")
    if not found:
        raise _nothing_found(raw, foreigners, skipped)
    if foreigners:
        listing.notes.append(f"skipped, of a format that is not read: {_names(foreigners, raw)}")
    if skipped:
        listing.notes.append(f"skipped, no keypoints in it: {_names(skipped, raw)}")
    kind = found[0][1]
    if kind not in (table, json_list) or len(found) > 1:
        listing.notes.append(f"read as {kind.NAME}: {_names([file for file, *_ in found], raw)}")
    yield from found


def _names(files: Iterable[Path], raw: Path) -> str:
    return listed(shown_path(file.relative_to(raw)) for file in files)


def _why_skipped(content: Any) -> str:
    """Say what a file lacks to be a file of keypoints."""
    if isinstance(content, Table):
        return content.why_missing(table.COLUMNS)
    if coco.recognises(content):
        return coco.why_skipped(content)
    return f"no keypoints; expected {coco.NAME}, or {json_list.NAME}"


def _nothing_found(raw: Path, foreigners: Mapping[Path, str], skipped: Mapping[Path, str]) -> UserError:
    """Make the error of a folder without keypoints; it names what is nearest to them."""
    for file, why in foreigners.items():
        return UserError(f"{shown_path(file)}: {why}")
    if (instead := foreign.json_instead(raw)) is not None:
        return UserError(instead)
    for below, file in files_below(raw):
        remedy = f"give --raw {shown_path(below)}" if ImageFiles(below).some else f"move the file to {shown_path(raw)}"
        return UserError(
            f"{shown_path(raw)}: no annotations in it, but in the folder below, {shown_path(file)}; {remedy}"
        )
    if (instead := foreign.file_instead(raw)) is not None:
        return UserError(instead)
    for file, why in skipped.items():
        return UserError(f"{shown_path(file)}: {why}")
    if raw.name.lower() == "images":
        for file in (file for pattern in _ABOVE for file in visible_files(raw.parent, pattern)):
            above = f"in the folder above, {shown_path(file)}; give --raw {shown_path(raw.parent)}"
            return UserError(f"{shown_path(raw)}: no annotations in it, but {above}")
    for file in (file for pattern in _SHEETS for file in visible_files(raw, pattern)):
        return UserError(
            f"{shown_path(file)}: a spreadsheet; save its table as CSV beside it, with {','.join(table.COLUMNS)}"
        )
    for file in (file for pattern in _OTHER_TABLES for file in visible_files(raw, pattern)):
        if table.recognises(read_table(file)):
            return UserError(f"{shown_path(file)}: {table.NAME}; rename it to {file.name.partition('.')[0]}.csv")
    for file in foreign.archives(raw):
        return UserError(f"{shown_path(file)}: an archive; unpack it")
    return UserError(f"{shown_path(raw)}: no annotations of keypoints; {LOOKED_FOR}")


def _split_of(file: Path, kind: Format, raw: Path) -> str:
    """Find the split that the names of a file and its folders give; LabelMe's file has the name of an image."""
    # DeepLabCut's file has the name of a person, and its folder that of a video.
    return "" if kind is deeplabcut else split_in_name(file.with_name("_") if kind is labelme else file, raw)


def _refuse_twins(file: Path, entries: Sequence[Entry], first_of: dict[object, Path]) -> None:
    """Raise UserError if another file holds one of the objects too: by its id, or by its photograph and keypoints.

    Args:
        file: the annotation file.
        entries: its objects.
        first_of: id or content of an object -> the first file that holds it; filled in place.
    """
    for entry in entries:
        for key in (entry.id, (entry.photo, entry.category, *sorted(entry.points.items()))):
            other = first_of.setdefault(key, file)
            if other != file:
                names = [found[0] for path in (other, file) if (found := _PART.search(path.stem))]
                of_split = len(set(names)) > 1
                keep = f"the files of one split, such as {names[0]}" if of_split else "one of the two files"
                raise UserError(
                    f"{shown_path(other)} and {shown_path(file)}: both hold the object {shown(entry.id)}; keep {keep}"
                )


def _note_splits(listing: RawListing, splits: Mapping[Path, str], raw: Path) -> None:
    """Note which split the name of each annotation file gave."""
    by_split: dict[str, list[str]] = {}
    for file, split in splits.items():
        if split:
            by_split.setdefault(split, []).append(shown_path(file.relative_to(raw)))
    if by_split:
        listing.notes.append(
            "splits by file name: " + "; ".join(f"{split} from {listed(files)}" for split, files in by_split.items())
        )
