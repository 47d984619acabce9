"""Lock a folder of results, so that one process at a time works in it."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

import filelock

from nmt.errors import UserError
from tune.results.layout import LOCK, LOCK_MARKER

NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL)
"""what a file system without locks answers: NFS without its lock service, some of FUSE"""


class LockedError(UserError):
    """Another process works in the directory."""


@contextlib.contextmanager
def only_one(directory: Path) -> Iterator[None]:
    """Lock the directory for this process alone, and create it if absent.

    The operating system frees the lock when the process dies, so a killed search leaves nothing to clean up. On a file
    system without locks, a marker file names the process. It is removed when that process no longer runs.

    Raises:
        LockedError: another process holds it.
        UserError: the directory is not writable.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = _acquire(directory)
    except filelock.Timeout:
        raise LockedError(f"{directory}: another process runs a search here; wait for it or stop it") from None
    except OSError as error:
        raise UserError(f"{directory}: cannot be written ({error.strerror}); choose another --results") from error
    try:
        yield
    finally:
        lock.release()


def _acquire(directory: Path) -> filelock.BaseFileLock:
    lock = filelock.FileLock(directory / LOCK, timeout=0, fallback_to_soft=False)
    try:
        lock.acquire()
        return lock
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
    marker = filelock.SoftFileLock(directory / LOCK_MARKER, timeout=0)
    try:
        marker.acquire()
    except filelock.Timeout:
        raise LockedError(
            f"{directory}: another process runs a search here; wait for it or stop it. If it ran on a machine that "
            f"has died, remove {directory / LOCK_MARKER}"
        ) from None
    return marker
