"""Reader of SPair-71k (Min et al., arXiv 1908.10543): its given pairs, large or small layout, and their whole images.

It also reads SPair-U (Mariotti et al., NeurIPS 2025): test pairs of SPair-71k with other keypoints, in the same format.

An object is one image and category. SPair-71k annotates pairs, not images, so an object's keypoints are collected by id
from all of its pairs, which must agree on their positions. A pair is matched on the keypoints that its file lists.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nmt.data.readers.base import (
    NOT_FINITE,
    Box,
    Entry,
    Excluded,
    RawListing,
    box_if_any,
    points_within,
)
from nmt.data.readers.listed_pairs import FEW_COMMON, OTHER_SPLIT
from nmt.data.readers.values import as_dict, as_list, as_name, as_number, as_point, as_size
from nmt.data.store.given_pairs import DIFFICULTIES, NOT_GIVEN, GivenPair
from nmt.data.store.objects import MIN_KEYPOINTS
from nmt.errors import UserError, nearest
from nmt.io.user_files import is_file, read_json, read_text, shown, visible_files

SPLIT_NAMES = {"test": "test", "val": "val", "train": "trn"}
"""our split -> its name in SPair-71k; an image listed in several splits goes to the first of this order"""
OTHER_DIFFICULTY = "pairs of another difficulty"
UNGRADED = "pairs without a grading that --difficulty names"
TOLERANCE = 1.0
"""largest difference of a keypoint's position between two pairs of an image, pixels"""


@dataclass
class _Object:
    """One image and category, whose keypoints grow as pairs are read."""

    split: str
    image: Path
    points: dict[str, tuple[float, float]]
    size: tuple[int, int] | None
    """width and height of the image that was annotated, pixels; None: not given"""
    dropped: set[str] = field(default_factory=set)
    """keypoints with NaN or infinite coordinates"""
    box: Box | None = None
    """bounding box of the object, pixels; None: not given"""


def read(raw: Path, *, layout: str, difficulty: Mapping[str, Sequence[int]], skip_bad: bool) -> RawListing:
    """List the given pairs of a layout and the images they join.

    Args:
        raw: the folder SPair-71k, or its parent.
        layout: "large" (all pairs) or "small".
        difficulty: levels to keep of each grading, such as {"mirror": [0], "viewpoint_variation": [0, 1]}. A grading
            that is not named keeps all levels. Pairs may lack gradings (AP-10K in this format) that it does not name.
        skip_bad: leave damaged pairs out instead of raising UserError.

    Raises:
        UserError: not SPair-71k, a damaged file (without `skip_bad`), a pair without a grading that `difficulty` names,
            or no pairs left.
    """
    root, listing = _find(raw), RawListing()
    _read_pairs(root, listing, _pair_names(root, layout, listing.files), difficulty, skip_bad=skip_bad)
    if not listing.pairs:
        raise UserError(f"{root}: no pairs are left in layout {layout}{listing.why_few()}")
    return listing


def read_unseen(raw: Path, *, difficulty: Mapping[str, Sequence[int]], skip_bad: bool) -> RawListing:
    """List the pairs of SPair-U, all in split test, and the images they join. Arguments are those of `read`.

    Args:
        raw: the folder SPair-U, or one that holds it; JPEGImages of SPair-71k lies in it, or a link to it.

    Raises:
        UserError: not SPair-U, or as `read` does.
    """
    root, listing = _find_unseen(raw), RawListing()
    folder = root / "PairAnnotation" / SPLIT_NAMES["test"]
    names = (("test", folder, file.stem) for file in visible_files(folder, "*.json"))
    _read_pairs(root, listing, names, difficulty, skip_bad=skip_bad)
    if not listing.pairs:
        raise UserError(f"{folder}: no pairs are left{listing.why_few()}")
    return listing


def _read_pairs(
    root: Path,
    listing: RawListing,
    names: Iterable[tuple[str, Path, str]],
    difficulty: Mapping[str, Sequence[int]],
    *,
    skip_bad: bool,
) -> None:
    """Read the pairs of a list into a listing.

    Args:
        names: split, the list and the name of each pair.
    """
    objects, pairs = dict[str, _Object](), list[GivenPair]()
    for split, file, name in names:
        with listing.leaving_out(skip_bad=skip_bad):
            annotation = _pair_file(root, split, file, name)
            listing.files.append(annotation)
            pairs.append(_pair(root, split, annotation, objects, difficulty))
    if listing.left_out[UNGRADED]:
        raise UserError(
            f"{root}: {listing.left_out[UNGRADED]} pairs have no grading {' or no '.join(difficulty)}; "
            f"leave --difficulty out"
        )
    listing.entries = [
        Entry(
            *(key, key.partition("/")[0], found.split, key, found.image, found.points),
            size=found.size,
            object_box=found.box,
        )
        for key, found in objects.items()
    ]
    if not_finite := sum(len(found.dropped - found.points.keys()) for found in objects.values()):
        listing.left_out[NOT_FINITE] += not_finite
    listing.refuse_shares(root)
    # A damaged copy may pair an image with itself, which would teach nothing.
    listing.pairs = [pair for pair in pairs if len(pair.keypoints) >= MIN_KEYPOINTS and pair.id0 != pair.id1]
    if len(listing.pairs) < len(pairs):
        listing.left_out[FEW_COMMON] += len(pairs) - len(listing.pairs)
    paired = {entry_id for pair in listing.pairs for entry_id in (pair.id0, pair.id1)}
    listing.entries = sorted((e for e in listing.entries if e.id in paired), key=lambda entry: entry.id)


def parse_difficulty(texts: Sequence[str]) -> dict[str, list[int]]:
    """Parse the values of --difficulty, such as ["mirror=0", "viewpoint_variation=0,1"], to grading -> levels to keep.

    Raises:
        UserError: an unknown grading, or levels that are not numbers.
    """
    levels: dict[str, list[int]] = {}
    for text in texts:
        key, _, values = text.partition("=")
        if key not in DIFFICULTIES:
            raise UserError(f"--difficulty {text}: no such grading; {nearest(key, DIFFICULTIES)}")
        try:
            levels[key] = sorted({int(value) for value in values.split(",")})
        except ValueError:
            raise UserError(f"--difficulty {text}: expected levels, for instance {key}=0 or {key}=0,1") from None
    return levels


def _find(raw: Path) -> Path:
    for root in (raw, raw / "SPair-71k"):
        if (root / "PairAnnotation").is_dir() and (root / "Layout").is_dir():
            return root
    state = "not SPair-71k" if raw.is_dir() else "does not exist"
    raise UserError(
        f"{raw}: {state}; looked for Layout/large/trn.txt, PairAnnotation/trn/*.json and JPEGImages/CATEGORY/*.jpg, "
        "in it and in SPair-71k below"
    )


def _find_unseen(raw: Path) -> Path:
    for root in (raw, raw / "SPair-U", raw / "datasets" / "SPair-U"):
        if (root / "PairAnnotation" / "test").is_dir():
            if (root / "JPEGImages").is_dir():
                return root
            raise UserError(
                f"{root}: has no JPEGImages; SPair-U comes without images: link the folder of SPair-71k into it"
            )
    state = "not SPair-U" if raw.is_dir() else "does not exist"
    raise UserError(f"{raw}: {state}; looked for PairAnnotation/test/*.json, in it and in SPair-U below")


def _pair_names(root: Path, layout: str, files: list[Path]) -> Iterator[tuple[str, Path, str]]:
    """Yield (split, layout file, name) of every pair of a layout; the files read are appended to `files`."""
    for split, theirs in SPLIT_NAMES.items():
        file = root / "Layout" / layout / f"{theirs}.txt"
        names = read_text(file, what="list of pairs").split()
        files.append(file)
        yield from ((split, file, name) for name in names)


def _pair_file(root: Path, split: str, file: Path, name: str) -> Path:
    """Find the file of a pair. In copies that passed through Windows, `_` replaces the `:` before the category."""
    folder = root / "PairAnnotation" / SPLIT_NAMES[split]
    as_name(name, f"{file}: a pair")
    stem, _, category = name.replace(":", "_").rpartition("_")
    for spelled in (name, f"{stem}:{category}", f"{stem}_{category}"):
        if is_file(path := folder / f"{spelled}.json"):
            return path
    raise UserError(f"{file}: names the pair {shown(name)}, but {folder} has no file for it")


def _pair(
    root: Path, split: str, path: Path, objects: dict[str, _Object], difficulty: Mapping[str, Sequence[int]]
) -> GivenPair:
    """Read one pair and add its objects and keypoints to `objects`. Raises Excluded before anything is added."""
    content = as_dict(read_json(path), f"{path}: the pair")
    levels = tuple(_level(content, key, path) for key in DIFFICULTIES)
    if any(level == NOT_GIVEN and key in difficulty for key, level in zip(DIFFICULTIES, levels, strict=True)):
        raise Excluded(UNGRADED)
    if any(level not in difficulty.get(key, (level,)) for key, level in zip(DIFFICULTIES, levels, strict=True)):
        raise Excluded(OTHER_DIFFICULTY)
    sides = [_side(root, split, path, content, side) for side in ("src", "trg")]
    # Both sides are checked before either is added: a pair that is refused must not leave keypoints behind.
    for key, found in sides:
        _check(path, found, objects.get(key))
    for key, found in sides:
        known = objects.setdefault(key, found)
        known.points.update(found.points)
        known.dropped |= found.dropped
        known.size = known.size or found.size
        known.box = known.box or found.box
    (id0, source), (id1, target) = sides
    return GivenPair(split, id0, id1, tuple(k for k in source.points if k in target.points), levels)


def _level(content: dict[str, Any], key: str, path: Path) -> int:
    """Read a grading of a pair; NOT_GIVEN where it has none."""
    if content.get(key) is None:
        return NOT_GIVEN
    level = as_number(content[key], f"{path}: {key}")
    if level not in range(128):
        raise UserError(f"{path}: {key} must be a small whole number, but is {json.dumps(level)}")
    return int(level)


def _side(root: Path, split: str, path: Path, content: dict[str, Any], side: str) -> tuple[str, _Object]:
    """Read one side ("src" or "trg") of a pair: object id, and the object with this pair's keypoints."""
    category = as_name(content.get("category"), f"{path}: category")
    image = root / "JPEGImages" / category / as_name(content.get(f"{side}_imname"), f"{path}: {side}_imname")
    if not is_file(image):
        raise UserError(f"{path}: its image {image} does not exist")
    ids = [
        as_name(k if isinstance(k, str) else str(k), f"{path}: kps_ids")
        for k in as_list(content.get("kps_ids"), f"{path}: kps_ids")
    ]
    if len(set(ids)) < len(ids):
        raise UserError(f"{path}: kps_ids names a keypoint twice")
    where = f"{path}: {side}_kps"
    coordinates = as_list(content.get(f"{side}_kps"), where, length=len(ids))
    for name, xy in zip(ids, coordinates, strict=True):
        if xy is None or xy == [None, None]:
            raise UserError(f"{where} has no coordinates of keypoint {name}; a pair lists the keypoints of both images")
    points = {name: as_point(xy, where) for name, xy in zip(ids, coordinates, strict=True)}
    inside = points_within(points, None)
    dropped = points.keys() - inside.keys()
    size, box = _size(content, f"{side}_imsize"), box_if_any(content.get(f"{side}_bndbox"), corners=True)
    return f"{category}/{image.stem}", _Object(split, image, inside, size, dropped, box)


def _size(content: dict[str, Any], key: str) -> tuple[int, int] | None:
    """Read the size of the annotated image, [width, height, channels]; None where it is missing or impossible."""
    match content.get(key):
        case [width, height, *_]:
            return as_size(width, height)
    return None


def _check(path: Path, found: _Object, known: _Object | None) -> None:
    """Check an object of a pair against the earlier pairs of the same image.

    Raises:
        Excluded: its image belongs to another split.
        UserError: another image of the same name, an image of another size, or a keypoint at another position.
    """
    if known is None:
        return
    if known.split != found.split:
        raise Excluded(OTHER_SPLIT)
    if known.image != found.image:
        raise UserError(f"{path}: {found.image.name} has the name of {known.image.name}, another image")
    if known.size and found.size and known.size != found.size:
        (width, height), (other_width, other_height) = found.size, known.size
        raise UserError(
            f"{path}: {found.image.name} is {width} x {height} pixels, in another pair {other_width} x {other_height}"
        )
    for name, (x, y) in found.points.items():
        known_x, known_y = known.points.get(name, (x, y))
        if max(abs(x - known_x), abs(y - known_y)) > TOLERANCE:
            raise UserError(
                f"{path}: keypoint {name} of {found.image.name} at ({x:g}, {y:g}), elsewhere ({known_x:g}, {known_y:g})"
            )
