"""Find the files of a folder that may hold annotations, and parse them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

from nmt.data.readers.own import cub
from nmt.data.readers.own.pairs import pairs_file
from nmt.data.readers.own.table import MIRROR_FILE
from nmt.errors import UserError
from nmt.io.spreadsheet import read_table
from nmt.io.user_files import is_file, mentions, read_json, read_xml, visible_files, visible_folders

_TABLES, _JSON = ("*.csv", "*.tsv"), "*.json"

_FOLDERS = ("annotations", "train", "training", "val", "valid", "validation", "test", "testing")
"""folders below the raw one that may hold annotation files, in any case of letters"""
_LARGE = 2**24
"""bytes of a JSON file that is not parsed unless it mentions keypoints: COCO's instances are 450 MB"""
_KEYPOINTS = (b"keypoint", b'"shapes"')


def candidates(raw: Path) -> Iterator[tuple[Path, Any]]:
    """Yield the files in the usual folders that may be annotations: parsed, or the UserError of a damaged one.

    The content of a large file without keypoints is None.
    """
    others = raw / MIRROR_FILE, pairs_file(raw)
    for folder in _annotation_folders(raw):
        for pattern in _TABLES:
            for file in visible_files(folder, pattern):
                if file not in others:
                    yield file, _content(read_table, file)
        for file in visible_files(folder, _JSON):
            yield file, _content(_read_plain, file)
        for file in visible_files(folder, "*.xml"):
            if mentions(file, (b"<annotations",)):
                yield file, _content(read_xml, file)
    if is_file(raw / cub.FILE):
        yield raw / cub.FILE, cub.Folder(raw)


def nested(raw: Path, known: Collection[Path]) -> Iterator[tuple[Path, Any]]:
    """Yield the files in any folder that may be of LabelMe or DeepLabCut, as `candidates` does.

    Args:
        raw: the raw folder.
        known: files to leave out.
    """
    for file in visible_files(raw, _JSON, below=True):
        if file not in known and mentions(file, (b'"shapes"',)):
            yield file, _content(_parsed, file)
    for file in visible_files(raw, "CollectedData*.csv", below=True):
        # DeepLabCut copies all tables into one for each training.
        if file not in known and "training-datasets" not in file.relative_to(raw).parts:
            yield file, _content(read_table, file)


def files_below(raw: Path) -> Iterator[tuple[Path, Path]]:
    """Yield files that may be annotations if the folder below were the raw one: (that folder, the file)."""
    for root in visible_folders(raw):
        for folder in _annotation_folders(root):
            for pattern in (*_TABLES, _JSON, "annotations.xml"):
                yield from ((root, file) for file in visible_files(folder, pattern))
        if is_file(root / cub.FILE):
            yield root, root / cub.FILE


def _annotation_folders(raw: Path) -> list[Path]:
    """List the folder itself, and those below that may hold annotation files, in the order of _FOLDERS."""
    below = [folder for folder in visible_folders(raw) if folder.name.lower() in _FOLDERS]
    return [raw, *sorted(below, key=lambda folder: _FOLDERS.index(folder.name.lower()))]


def _content(read: Callable[[Path], Any], file: Path) -> Any:
    """Read a file; return the UserError of a damaged one, for others may be whole."""
    try:
        return read(file)
    except UserError as error:
        return error


def _read_plain(file: Path) -> Any:
    return _parsed(file) if file.stat().st_size <= _LARGE or mentions(file, _KEYPOINTS) else None


def _parsed(file: Path) -> Any:
    content = read_json(file)
    if isinstance(content, dict):
        content.pop("imageData", None)  # LabelMe's image in base64: those of all files would fill the memory
    return content
