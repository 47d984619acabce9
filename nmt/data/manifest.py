"""`manifest.json` of a data set: size and SHA-256 of each of its files, to verify copies by."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from nmt.errors import UserError
from nmt.files import write_json

MANIFEST_FILE = "manifest.json"


@dataclass(frozen=True)
class FileRecord:
    bytes: int
    sha256: str


def data_files(directory: Path) -> list[Path]:
    """The files of a data set, relative to it."""
    found = [*directory.glob("*.arrow"), *directory.glob("features/*.arrow")]
    return sorted(path.relative_to(directory) for path in found if not path.name.startswith("."))


def record(path: Path) -> FileRecord:
    """Size and content hash of a file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return FileRecord(path.stat().st_size, digest)


def write_manifest(directory: Path) -> None:
    """Notes every file of the data set."""
    records = {str(path): asdict(record(directory / path)) for path in data_files(directory)}
    write_json(directory / MANIFEST_FILE, {"version": 1, "files": records})


def parse_manifest(content: bytes, where: str) -> dict[str, FileRecord]:
    """Relative path -> what it must be. Raises UserError when that is no manifest, or points out of the data set."""
    try:
        records = {path: FileRecord(**values) for path, values in json.loads(content)["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{where}: not a manifest of a data set; prepare the data set anew") from error
    for path in records:
        if Path(path).is_absolute() or ".." in Path(path).parts or Path(path).suffix != ".arrow":
            raise UserError(f"{where}: names {path!r}, which is not a file of a data set")
    return records
