"""Check that the files of a data set exist, before anything heavy is imported.

The readers of the files raise these same messages; the command line asks first, so that a wrong name costs no seconds.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nmt.commands import command
from nmt.errors import UserError
from nmt.io.address import is_address
from nmt.io.cache import cache_folder

OBJECTS_FILE = "objects.arrow"
PHOTOGRAPHS_FILE = "photographs.arrow"
"""beside the objects where they are cut out of photographs (nmt/data/store/photographs.py)"""


def prepare_command(
    name: str,
    *,
    data: str | Path | None = None,
    features: str | None = None,
    settings: Mapping[str, Any] | None = None,
) -> str:
    """Return the command that makes a data set, or its table of features, for error messages.

    Args:
        data: folder or address of the data set, which is in the command where it is not the default one. A node's copy
            of an address is not: the next node has another.
        features: backbone whose features it stores.
        settings: configuration keys and values of --set.
    """
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):  # the name of a folder, which no data set can have
        name = "NAME"
    words = [] if name == "demo" else ["--raw", "DIR"]
    words += ["--features", features] if features else []
    words += [word for key, value in (settings or {}).items() for word in ("--set", f"{key}={value}")]
    return command("--prepare", name, *words, data=None if _is_copy(data) else data, data_set=name)


def _is_copy(data: str | Path | None) -> bool:
    """True for a node's copy of a data set at an address."""
    with contextlib.suppress(RuntimeError):  # a user without a home, and so without copies
        return data is not None and Path(data).is_relative_to(cache_folder())
    return False


def require_table(path: Path, *, remedy: str) -> None:
    """Raise UserError with the command that makes the file, `remedy`, unless the file is there."""
    if not path.is_file():
        raise UserError(f"{path}: not there; make it with: {remedy}")


def require_data_set(data: str, name: str | None = None) -> None:
    """Raise UserError with the command that makes the data set, unless it is there.

    A data set at an address (s3://bucket/x) is not asked for: that takes a connection, which opening it makes.

    Args:
        name: of the data set, by default that of its folder.
    """
    if not is_address(data):
        require_table(Path(data) / OBJECTS_FILE, remedy=prepare_command(name or Path(data).name, data=data))
