"""Size and checksum of a file, by which a copy is compared with its original."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class FileRecord:
    """Size and hash of the content of a file."""

    bytes: int
    """size of the file"""
    sha256: str
    """SHA-256 of its content, hex"""


def record(path: Path) -> FileRecord:
    """Compute the record of a file; reads all of it."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return FileRecord(path.stat().st_size, digest)
