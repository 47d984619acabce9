"""The folder of this node for copies of what lies elsewhere: data sets, and weights of a hub."""

from __future__ import annotations

import os
from pathlib import Path

from nmt.errors import UserError

VARIABLE = "NMT_CACHE"


def cache_folder() -> Path:
    """Return $NMT_CACHE, or ~/.cache/nmt. It may be absent."""
    return Path(os.environ.get(VARIABLE) or Path.home() / ".cache" / "nmt")


def make_folder(folder: Path) -> None:
    """Make a folder below the cache if it is absent. Raises UserError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{folder}: cannot be made ({error.strerror}); set {VARIABLE} to a folder that can be written"
        ) from error
