"""Formats of annotations that are not read: each is named, with what to export or save instead."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

from nmt.io.spreadsheet import Table
from nmt.io.user_files import read_json, read_start, shown_path, visible_files

_COCO = "export COCO keypoints"
_TABLE = "write a table of image,category,keypoint,x,y"


def instead(content: Any) -> str | None:
    """Name the format of a file's content and what to do; None for content of no known format.

    Args:
        content: parsed JSON, a table, or the root of an XML file.
    """
    if isinstance(content, Table):
        return _of_table(content)
    if isinstance(content, Element):
        return f"CVAT for video is not read; {_COCO}, or CVAT for images" if content.find("track") is not None else None
    first = content[0] if isinstance(content, list) and content else content
    if not isinstance(first, dict) or _READ[0] <= first.keys() or _READ[1] <= first.keys():
        return None
    return next((line for has, line in (_LISTS if isinstance(content, list) else _OBJECTS) if has(first)), None)


def _of_table(table: Table) -> str | None:
    cells = {cell.lower() for _, row in table.rows[:4] for cell in row}
    if "likelihood" in cells and {"bodyparts", "coords"} <= cells:
        return "DeepLabCut's predictions for a video are not read; give its labelled frames, CollectedData_*.csv"
    if {"#filename", "region_shape_attributes"} <= cells:
        return f"the CSV of VIA is not read; {_TABLE}"
    return None


def _keys(*names: str) -> Callable[[Mapping[str, Any]], bool]:
    return lambda found: all(name in found for name in names)


def _is_via(found: Mapping[str, Any]) -> bool:
    first = next(iter(found.values()), None)
    return isinstance(first, dict) and {"filename", "regions"} <= first.keys()


def _is_create_ml(found: Mapping[str, Any]) -> bool:
    return "keypoints" not in found and {"image", "annotations"} <= found.keys()


_Known = tuple[tuple[Callable[[Mapping[str, Any]], bool], str], ...]
_OBJECTS: _Known = (
    (_keys("_via_img_metadata"), f"a project of VIA is not read; {_TABLE}"),
    (_is_via, f"the JSON of VIA is not read; {_TABLE}"),
    (_keys("objects", "size"), f"Supervisely's format is not read; {_COCO}"),
    (_keys("classes", "tags"), f"Supervisely's format is not read; {_COCO}"),
    (_keys("assets", "tags"), f"VoTT's format is not read; {_TABLE}"),
    (_keys("asset", "regions"), f"VoTT's format is not read; {_TABLE}"),
    (_keys("metadata", "instances"), f"SuperAnnotate's format is not read; {_COCO}"),
    (_keys("item", "annotations"), f"V7 Darwin's format is not read; {_COCO}"),
    (_keys("items", "categories"), f"Datumaro's format is not read; {_COCO}"),
    (_keys("data_row"), f"Labelbox's format is not read; {_TABLE}"),
    (
        _keys("result", "task"),
        "Label Studio's files of single annotations are not read; export the project as JSON or COCO",
    ),
    (_keys("src_imname", "trg_imname"), "SPair-71k's format is read by --prepare spair"),
    (_keys("people"), f"OpenPose's format is not read, for it names no keypoints; {_TABLE}"),
)
_LISTS: _Known = (
    (_keys("image_id", "keypoints"), "results of COCO are not read; give the annotations, with images and categories"),
    (_keys("data_row"), f"Labelbox's format is not read; {_TABLE}"),
    (_keys("joints", "image"), f"MPII's format is not read, for it names no keypoints; {_TABLE}"),
    (_is_create_ml, f"CreateML holds boxes but no keypoints; {_COCO}"),
)

_READ = ({"images", "annotations"}, {"image", "keypoints"})
"""keys of COCO and of a JSON list, which are read whatever else they hold"""
_FILES: tuple[tuple[str, str], ...] = (
    ("CollectedData*.h5", "HDF5 is not read; give DeepLabCut's CSV of the same name, which it saves beside"),
    ("*.slp", f"SLEAP's format is not read; {_TABLE}"),
    ("*.vott", f"VoTT's format is not read; {_TABLE}"),
    ("*.ndjson", f"JSON by lines, as Labelbox exports it, is not read; {_TABLE}"),
    ("*.jsonl", f"JSON by lines is not read; {_TABLE}"),
    ("*.mat", f"MATLAB's format is not read; {_TABLE}"),
    ("*.h5", f"HDF5 is not read; {_TABLE}"),
    ("*.hdf5", f"HDF5 is not read; {_TABLE}"),
    ("*.pkl", f"pickled files are not read, for they can run any code; {_TABLE}"),
    ("*.parquet", f"Parquet is not read; {_TABLE}"),
)
ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar")
"""endings of the files that hold a folder"""


def json_instead(raw: Path) -> str | None:
    """Name the format of the first JSON file below a folder, if it is not read, and what to do.

    Raises:
        UserError: the file is damaged.
    """
    for file in visible_files(raw, "*.json", below=True):
        line = instead(read_json(file))
        return None if line is None else f"{shown_path(file)}: {line}"
    return None


def archives(raw: Path) -> list[Path]:
    """List the archives in a folder or below."""
    return [file for file in visible_files(raw, "*", below=True) if file.suffix.lower() in ARCHIVES]


def file_instead(raw: Path) -> str | None:
    """Name a file of another format in a folder or below, and what to do; None where there is none."""
    files = visible_files(raw, "*", below=True)
    for file in (file for file in files if file.suffix.lower() == ".xml"):
        if b"<annotation>" in (start := read_start(file)):
            if b"<keypoint" in start:
                return (
                    f"{shown_path(file)}: XML with keypoints; PascalVOC's are read by --prepare voc, of others {_COCO}"
                )
            return f"{shown_path(file)}: PascalVOC's XML holds boxes but no keypoints; {_COCO}"
    for pattern, line in _FILES:
        for file in (file for file in files if fnmatch.fnmatch(file.name.lower(), pattern.lower())):
            return f"{shown_path(file)}: {line}"
    for file in (file for file in files if file.suffix.lower() == ".txt"):
        if _is_yolo(read_start(file)):
            return f"{shown_path(file)}: YOLO's labels give keypoints no names; {_COCO}"
    return None


def _is_yolo(start: bytes) -> bool:
    """Return True for lines of a class, a box and keypoints, as shares of the sides."""
    cells = start.split(b"\n", 1)[0].split()
    try:
        numbers = [float(cell) for cell in cells]
    except ValueError:
        return False
    return len(numbers) >= 5 and numbers[0] == int(numbers[0]) and all(0 <= number <= 2 for number in numbers[1:])
