"""Tell an address (s3://bucket/x, gs://bucket/x, any of pyarrow.fs) from a folder. Imports nothing heavy."""

from __future__ import annotations

import re
from pathlib import Path

# One slash is enough: pathlib folds the two of an address that came through a Path.
_ADDRESS = re.compile(r"(?!file:)([a-z][a-z0-9+]+):/{1,2}([^/].*)", re.DOTALL)


def is_address(place: str | Path) -> bool:
    """True for an address, False for a folder."""
    return _ADDRESS.fullmatch(str(place)) is not None


def address_parts(address: str) -> tuple[str, str]:
    """Split an address into its scheme and the rest: s3 and bucket/x."""
    found = _ADDRESS.fullmatch(address)
    assert found is not None, address
    return found[1], found[2]


def absolute(place: str | Path) -> str:
    """Name the same place so that every process and node understands it, whatever its working directory."""
    return str(place) if is_address(place) else str(Path(place).resolve())
