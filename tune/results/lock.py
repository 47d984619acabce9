"""TODO docstring of tune.results.lock."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

from nmt.errors import UserError
from tune.results.layout import LOCK


class LockedError(UserError):
    """Another process works in the directory."""


@contextlib.contextmanager
def only_one(directory: Path) -> Iterator[None]:
    """The directory, made if absent, for this process alone; the system frees it when the process dies."""
    directory.mkdir(parents=True, exist_ok=True)
    with open(directory / LOCK, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LockedError(f"{directory}: another process runs a search here; wait for it or stop it") from None
        yield
