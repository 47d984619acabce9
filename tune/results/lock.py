"""One process at a time works in a folder of results."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import filelock

from nmt.errors import UserError
from tune.results.layout import LOCK


class LockedError(UserError):
    """Another process works in the directory."""


@contextlib.contextmanager
def only_one(directory: Path) -> Iterator[None]:
    """Hold the directory, made if absent, for this process alone; the system frees it when the process dies.

    Raises:
        LockedError: another process holds it.
        UserError: the directory is not writable.
    """
    lock = filelock.FileLock(directory / LOCK, timeout=0)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except filelock.Timeout:
        raise LockedError(f"{directory}: another process runs a search here; wait for it or stop it") from None
    except OSError as error:
        raise UserError(f"{directory}: cannot be written ({error.strerror}); choose another --results") from error
    try:
        yield
    finally:
        lock.release()
