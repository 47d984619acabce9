"""The folder of this node for copies of what lies elsewhere: data sets, and weights of a hub."""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "NMT_CACHE"


def cache_folder() -> Path:
    """Return $NMT_CACHE, or ~/.cache/nmt. It may be absent."""
    return Path(os.environ.get(VARIABLE) or Path.home() / ".cache" / "nmt")
