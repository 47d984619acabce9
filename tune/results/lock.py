"""Lock a folder of results, so that one process at a time works in it."""

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
    """Lock the directory for this process alone, and create it if absent.

    The operating system frees the lock when the process dies, so a killed search leaves nothing to clean up.

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
