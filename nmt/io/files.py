"""Atomic file output and file locks.

A file is written under a temporary name in the same folder, synced to disk, and renamed. A reader therefore finds the
old content or the new, never a part, even after a crash.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from nmt.errors import TemporaryError, UserError
from nmt.io.user_files import check_file


def require_file(path: Path, what: str) -> None:
    """Raise UserError, calling the file `what`, unless it is there."""
    check_file(path, what=what, absent=f"no {what} there")


@contextlib.contextmanager
def atomic_output(path: Path) -> Iterator[Path]:
    """Give a temporary path to write to, which becomes `path` at the end of the block and is removed on any error.

    Args:
        path: the file to create or replace; missing parent folders are made.

    Raises:
        TemporaryError: the disk is full or the folder not writable. An earlier file at `path` is kept.
    """
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        with partial.open("rb") as file:
            os.fsync(file.fileno())  # else a power failure could leave the new name with no content
        partial.replace(path)
    except OSError as error:
        raise TemporaryError(
            f"{path}: cannot be written ({error.strerror or error}); free space, or write elsewhere with --results, "
            f"--data or --out"
        ) from error
    finally:
        with contextlib.suppress(OSError):  # the folder itself may be missing
            partial.unlink(missing_ok=True)


def remove_partials(folder: Path) -> None:
    """Remove what killed processes left half-written in a folder. Call it only where nobody is writing."""
    for left in folder.glob(".*.partial"):
        left.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """Open a binary file for writing that replaces `path` at the end of the block; see `atomic_output`."""
    with atomic_output(path) as partial, partial.open("wb") as file:
        yield file


def write_json(path: Path, content: Any) -> None:
    """Write `content` as indented JSON, atomically. Raises UserError."""
    with atomic_write(path) as file:
        file.write((json.dumps(content, indent=2) + "\n").encode())


@contextlib.contextmanager
def output_folder(out: Path) -> Iterator[None]:
    """Make the folder `out` and its parents; those made here are removed again when the block fails.

    Raises:
        UserError: it cannot be made.
    """
    made = [folder for folder in (out, *out.parents) if not folder.exists()]
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{out}: cannot be made ({error.strerror})") from error
    try:
        yield
    except BaseException:
        for folder in made:
            with contextlib.suppress(OSError):  # not empty: another process uses it
                folder.rmdir()
        raise


@contextlib.contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Hold the lock file `path` during the block, after waiting for other holders.

    The lock works between processes and, on NFS, between machines. It ends with the process, and the file is removed.

    Raises:
        UserError: the file cannot be made, or its file system has no locks.
    """
    # Not the package filelock: its lock file stays behind on Unix, and here that is a folder of the user's data.
    while True:
        try:
            descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o666)
        except OSError as error:
            raise UserError(f"{path}: cannot be made ({error.strerror}); is the folder writable?") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError as error:
            os.close(descriptor)
            raise UserError(
                f"{path}: cannot be locked ({error.strerror}); use a folder on a file system with locks (NFS: mount it "
                "with its lock service, without nolock)"
            ) from error
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.stat(path), os.fstat(descriptor)):
                break
        # The holder we waited for has removed the file we locked. Another process may hold a new one: try again.
        os.close(descriptor)
    try:
        yield
    finally:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        os.close(descriptor)
