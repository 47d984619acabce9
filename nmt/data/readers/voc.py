"""Reader of PascalVOC 2011 with Berkeley keypoints, following the published protocol.

The objects are those that the split file `voc2011_pairs.npz` lists. Left out are objects flagged difficult, occluded or
truncated, and persons after 2008, whose annotations nobody checked. An object is cut out at its `visible_bounds`.
Keypoints outside these bounds are dropped; keypoints with `visible="0"` are kept, for the published loaders ignore that
flag.

The split file has train and test only. A tenth of the train photographs of each category becomes `val`. No photograph
is in two splits: where one is listed in both, its train objects are left out.
"""

from __future__ import annotations

import contextlib
import io
import pickle
import re
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NoReturn
from xml.etree import ElementTree

import numpy as np

from nmt.commands import download_command
from nmt.data.readers.base import (
    FEW_KEYPOINTS,
    Box,
    Entry,
    Excluded,
    RawListing,
    checked_box,
    points_within,
)
from nmt.data.readers.by_rank import carve_val
from nmt.data.readers.values import as_number
from nmt.data.store.objects import MIN_KEYPOINTS
from nmt.errors import UserError, one_line
from nmt.io.user_files import is_file, is_folder, read_bytes, read_xml

SPLIT_FILE = "voc2011_pairs.npz"
FLAGS = ("difficult", "occluded", "truncated")
FLAGGED = "difficult, occluded or truncated"
LATE_PERSON, LAST_PERSON_YEAR = "persons after 2008", 2008
IN_TEST = "photographs that are in test too"
LISTED_TWICE = "listed twice"
VAL_NOTE = "splits: a tenth of the train photographs becomes val, within each category"

_REMEDY = "unpack its archive again, or leave damaged files out with --skip-bad"
_DEVKITS = ("VOC2011", "TrainVal/VOCdevkit/VOC2011", "VOCdevkit/VOC2011")

_ENTRY = re.compile(r"([a-z]+)/((\d{4})_\w+)_(\d{1,6})\.xml", re.ASCII)
"""category / photograph _ number of the object in the photograph, from 1"""
_BOUNDS = ("xmin", "ymin", "width", "height")
"""attributes of visible_bounds"""
_MAX_SPLIT_FILE = 64 << 20
"""largest decompressed member, bytes: a small archive can unpack to any size"""


@dataclass(frozen=True)
class _Folders:
    split_file: Path
    keypoints: Path
    flags: Path
    images: Path


def read(raw: Path, *, skip_bad: bool) -> RawListing:
    """List the objects of the published protocol.

    Args:
        raw: folder with `VOC2011` (or `TrainVal/VOCdevkit/VOC2011`), `annotations` and `voc2011_pairs.npz`.
        skip_bad: leave damaged annotations out instead of raising UserError.

    Raises:
        UserError: files are missing or damaged, or a split has no pairs.
    """
    folders = _find(raw)
    names = read_split_file(folders.split_file)
    listing = RawListing(files=[folders.split_file])
    flags: dict[str, list[bool]] = {}
    test_photos: set[str] = set()
    listed: set[str] = set()
    # Test first: a photograph listed in both stays in test, where published results are compared.
    for split in ("test", "train"):
        for name in names[split]:
            with listing.leaving_out(skip_bad=skip_bad):
                if name in listed:
                    raise Excluded(LISTED_TWICE)
                listed.add(name)
                entry = _entry(folders, name, split, flags, listing)
                if split == "test":
                    test_photos.add(entry.photo)
                elif entry.photo in test_photos:
                    raise Excluded(IN_TEST)
                listing.entries.append(entry)
    listing.refuse_shares(folders.keypoints)
    listing.entries = carve_val(listing.entries)
    listing.notes.append(VAL_NOTE)
    listing.drop_unpaired(raw)
    return listing


def _find(raw: Path) -> _Folders:
    devkit = next((raw / folder for folder in _DEVKITS if is_folder(raw / folder)), None)
    split_file, keypoints = raw / SPLIT_FILE, raw / "annotations"
    if devkit is None or not is_file(split_file) or not is_folder(keypoints):
        state = "not PascalVOC 2011 with keypoints" if is_folder(raw) else "does not exist"
        raise UserError(
            f"{raw}: {state}; looked for VOC2011/JPEGImages, VOC2011/Annotations (or both below TrainVal/VOCdevkit), "
            f"annotations/CATEGORY/*.xml and {SPLIT_FILE} in it; {_what_to_do(raw, devkit)}"
        )
    return _Folders(split_file, keypoints, devkit / "Annotations", devkit / "JPEGImages")


def _what_to_do(raw: Path, devkit: Path | None) -> str:
    """Say how a folder becomes the wanted one, from what it holds instead."""
    if is_folder(raw / "JPEGImages"):
        return "it is the folder of one year: give the folder above it, with all three in it"
    years = sorted({place.name for folder in _DEVKITS for place in (raw / folder).parent.glob("VOC20[0-9][0-9]")})
    if devkit is None and years:
        return f"it holds {', '.join(years)}, but the keypoints are those of VOC2011: {download_command('voc', raw)}"
    keypoints = raw / "annotations"
    # VOC2011/Annotations, which holds no folders, has the same name where capitals do not count.
    if devkit is not None and not is_folder(keypoints) and any(map(is_folder, (devkit / "annotations").glob("*"))):
        return f"move {devkit / 'annotations'} to {keypoints}"
    there = {"VOC2011": devkit is not None, "annotations": is_folder(keypoints), SPLIT_FILE: is_file(raw / SPLIT_FILE)}
    missing = ", ".join(name for name, found in there.items() if not found)
    return f"missing: {missing}; to get all: {download_command('voc', raw)}"


def _entry(folders: _Folders, name: str, split: str, flags: dict[str, list[bool]], listing: RawListing) -> Entry:
    """Read one object of the split file.

    Args:
        flags: photograph -> flags of its objects, filled here.
        listing: its files and what is left out are noted here.
    """
    match = _ENTRY.fullmatch(name)
    assert match, name
    category, photo, year, number = match[1], match[2], int(match[3]), int(match[4])
    if photo not in flags:
        listing.files.append(folders.flags / f"{photo}.xml")
        flags[photo] = _object_flags(listing.files[-1])
    # Some persons have number 0. The published lists were filtered in Python by the flags at index number - 1, so
    # number 0 read the flags of the last object; we do the same. Numbers beyond the objects are damage.
    if number > len(flags[photo]) or not flags[photo]:
        raise UserError(
            f"{folders.flags / photo}.xml: {len(flags[photo])} objects, but {name} is number {number}; {_REMEDY}"
        )
    if flags[photo][number - 1]:
        raise Excluded(FLAGGED)
    if category == "person" and year > LAST_PERSON_YEAR:
        raise Excluded(LATE_PERSON)
    annotation = folders.keypoints / category / f"{photo}_{number}.xml"
    listing.files.append(annotation)
    box, points = _box_and_points(annotation, listing.left_out)
    image = folders.images / f"{photo}.jpg"
    return Entry(f"{category}/{annotation.stem}", category, split, photo, image, points, box, object_box=box)


def _object_flags(path: Path) -> list[bool]:
    """Read which objects of a photograph, in order, the protocol leaves out."""
    objects = _xml(path).iterfind("object")
    return [any((found.findtext(flag) or "0").strip() == "1" for flag in FLAGS) for found in objects]


def _xml(path: Path) -> ElementTree.Element:
    """Parse an XML annotation. Raises UserError that says what to do with the file."""
    try:
        return read_xml(path)
    except UserError as error:
        remedy = _REMEDY
        with contextlib.suppress(UserError):
            if not _is_utf8(read_bytes(path)):
                remedy = f"its text is not UTF-8: save it as UTF-8, or {_REMEDY}"
        raise UserError(f"{error}; {remedy}") from error


def _is_utf8(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


def _box_and_points(annotation: Path, left_out: Counter[str]) -> tuple[Box, dict[str, tuple[float, float]]]:
    """Read the visible bounds and the keypoints inside them. Raises Excluded for fewer than two keypoints."""
    root = _xml(annotation)
    bounds = root.find("visible_bounds")
    if bounds is None:
        raise UserError(f"{annotation}: no visible_bounds; {_REMEDY}")
    if absent := [key for key in _BOUNDS if key not in bounds.attrib]:
        animal_pose = "; Animal-Pose writes ymin as xmax: rename it there" if absent == ["ymin"] else ""
        raise UserError(
            f"{annotation}: visible_bounds needs {', '.join(_BOUNDS)}, but has "
            f"{', '.join(bounds.attrib) or 'nothing'}{animal_pose}"
        )
    box = checked_box(*(as_number(bounds.get(key), f"{annotation}: visible_bounds {key}") for key in _BOUNDS))
    points: dict[str, tuple[float, float]] = {}
    for keypoint in root.iterfind("keypoints/keypoint"):
        name = keypoint.get("name") or ""
        where = f"{annotation}: keypoint {name or 'without a name'}"
        xy = as_number(keypoint.get("x"), f"{where} x"), as_number(keypoint.get("y"), f"{where} y")
        if name:
            points.setdefault(name, xy)
    points = points_within(points, box, left_out)
    if len(points) < MIN_KEYPOINTS:
        raise Excluded(FEW_KEYPOINTS)
    return box, points


def read_split_file(path: Path) -> dict[str, list[str]]:
    """Read the object names of the published split file, without running any code that it may contain.

    The file holds arrays of Python objects, which numpy stores as pickles. A pickle loaded the usual way can run any
    code. The unpickler here accepts lists, strings and arrays of them, and refuses everything else.

    Returns:
        "train" and "test" -> names CATEGORY/PHOTO_NUMBER.xml.

    Raises:
        UserError: not the split file, damaged, or with other content in it.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return {split: _names(_member(archive, f"{split}.npy"), path) for split in ("train", "test")}
    except UserError:
        raise
    except KeyError as error:
        raise UserError(f"{path}: not the split file of PascalVOC keypoints ({one_line(error)})") from error
    except Exception as error:  # zipfile, numpy and pickle raise whatever damaged bytes lead them to
        raise UserError(f"{path}: {_instead(path) or f'not a readable split file ({one_line(error)})'}") from error


def _instead(path: Path) -> str:
    """Say what lies in the place of the split file, and what to do; empty where it is not known."""
    again = f"remove it, then download it again: {download_command('voc', path.parent)}"
    with contextlib.suppress(OSError), path.open("rb") as file:
        head = file.read(200).removeprefix(b"\xef\xbb\xbf").lstrip().lower()
        if head.startswith(b"version https://git-lfs"):
            return f"a Git LFS pointer instead of the file; fetch it with: git lfs pull, or {again}"
        if head.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
            return f"a web page instead of the file; {again}"
        if not head:
            return f"an empty file; {again}"
    return ""


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    """Decompress one member of the archive, at most _MAX_SPLIT_FILE bytes. Raises ValueError beyond that."""
    with archive.open(name) as file:
        content = file.read(_MAX_SPLIT_FILE + 1)
    if len(content) > _MAX_SPLIT_FILE:
        raise ValueError(f"{name} is larger than {_MAX_SPLIT_FILE >> 20} MB")
    return content


def _names(content: bytes, path: Path) -> list[str]:
    """Read the names in a .npy file that holds one list per category."""
    file = io.BytesIO(content)
    version = np.lib.format.read_magic(file)
    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    dtype = header(file)[2]
    if dtype != np.dtype(object):
        raise ValueError(f"an array of {dtype}, not of lists")
    names = [name for in_category in _items(_Unpickler(file).load()) for name in _items(in_category)]
    for name in names:
        if not isinstance(name, str) or not _ENTRY.fullmatch(name):
            raise UserError(f"{path}: names {str(name)[:80]!r}, but entries are CATEGORY/PHOTO_NUMBER.xml")
    return names


class _Array:
    """Replacement for an object array in a pickle; numpy itself is not involved."""

    items: list[Any]

    def __setstate__(self, state: Any) -> None:
        items = state[4]
        if not isinstance(items, list):
            raise pickle.UnpicklingError("an array that does not hold objects")
        self.items = items


class _Dtype:
    """Replacement for the dtype of an array in a pickle; it is always `object` here."""

    def __setstate__(self, state: Any) -> None:
        pass


def _items(value: Any) -> list[Any]:
    if isinstance(value, _Array):
        return value.items
    if not isinstance(value, list):
        raise ValueError(f"{type(value).__name__} instead of a list")
    return value


class _Unpickler(pickle._Unpickler):
    """Unpickler that resolves the five names an object array needs, none of them to numpy, and refuses all others.

    It derives from the one in Python, whose memo is a dictionary. The memo of the one in C is an array as long as the
    largest index in the file, so that ten bytes could take gigabytes.
    """

    _ALLOWED: ClassVar[dict[tuple[str, str], Callable[..., Any] | str]] = {
        ("numpy.core.multiarray", "_reconstruct"): lambda *_: _Array(),
        ("numpy._core.multiarray", "_reconstruct"): lambda *_: _Array(),
        ("numpy", "ndarray"): "an argument of _reconstruct, never called",
        ("numpy", "dtype"): lambda *_: _Dtype(),
        ("_codecs", "encode"): lambda *_: b"",  # protocols before 3 write an argument of _reconstruct this way
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._ALLOWED:
            raise pickle.UnpicklingError(
                f"refused: it asks for {module}.{name}, a split file holds lists of names only"
            )
        return self._ALLOWED[module, name]

    def persistent_load(self, pid: Any) -> NoReturn:
        raise pickle.UnpicklingError("refused: it asks for an object outside itself")
