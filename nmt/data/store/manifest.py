"""The manifest of a data set, manifest.json: size and SHA-256 of each of its files, to verify copies."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from nmt.errors import UserError
from nmt.io.file_record import FileRecord, record
from nmt.io.files import write_json

MANIFEST_FILE = "manifest.json"


def data_files(directory: Path) -> list[Path]:
    """List the files of a data set, relative to its folder."""
    found = [*directory.glob("*.arrow"), *directory.glob("features/*.arrow")]
    return sorted(path.relative_to(directory) for path in found if not path.name.startswith("."))


def write_manifest(directory: Path) -> None:
    """Record every file of the data set in its manifest."""
    records = {str(path): asdict(record(directory / path)) for path in data_files(directory)}
    write_json(directory / MANIFEST_FILE, {"version": 1, "files": records})


def parse_manifest(content: bytes, where: str) -> dict[str, FileRecord]:
    """Parse a manifest into relative path -> expected size and hash.

    Args:
        where: what error messages call it.

    Raises:
        UserError: not a manifest, or one that names a path outside the data set.
    """
    try:
        records = {path: FileRecord(**values) for path, values in json.loads(content)["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{where}: not a manifest of a data set; prepare the data set anew") from error
    for path in records:
        if Path(path).is_absolute() or ".." in Path(path).parts or Path(path).suffix != ".arrow":
            raise UserError(f"{where}: names {path!r}, which is not a file of a data set")
    return records
