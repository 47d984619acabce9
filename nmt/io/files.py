"""Files that appear whole or not at all: written beside, synced, renamed."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from nmt.errors import UserError


def require_file(path: Path, what: str) -> None:
    """Raise UserError, calling the file `what`, unless it is there."""
    if not path.is_file():
        raise UserError(f"{path}: no {what} there")


@contextlib.contextmanager
def atomic_output(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to: renamed to `path` at the end, removed on any error.

    Raises UserError when the disk is full or the place is not writable; what stood at `path` before is kept.
    """
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written ({error.strerror or error}); free space, or write elsewhere with --results, "
            f"--data or --out"
        ) from error
    finally:
        with contextlib.suppress(OSError):  # its folder may be what could not be made
            partial.unlink(missing_ok=True)


def remove_partials(folder: Path) -> None:
    """What a process killed in mid-write left in a folder that nobody writes to now."""
    for left in folder.glob(".*.partial"):
        left.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """`atomic_output` as an open binary file."""
    with atomic_output(path) as partial, partial.open("wb") as file:
        yield file


def write_json(path: Path, content: Any) -> None:
    """`content` as indented JSON, atomically."""
    with atomic_write(path) as file:
        file.write((json.dumps(content, indent=2) + "\n").encode())


@contextlib.contextmanager
def output_folder(out: Path) -> Iterator[None]:
    """`out`, made with its parents; those made here are removed again when the work fails."""
    made = [folder for folder in (out, *out.parents) if not folder.exists()]
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{out}: cannot be made ({error.strerror})") from error
    try:
        yield
    except BaseException:
        for folder in made:
            with contextlib.suppress(OSError):  # not empty: somebody else works there too
                folder.rmdir()
        raise


@contextlib.contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Hold the lock file `path`, waiting for whoever holds it; it ends with the process, and nothing stays behind.

    Works between processes of one machine, and between machines on NFS.

    Raises:
        UserError: the lock file cannot be made.
    """
    # Not the package filelock: its lock file stays behind on Unix, and here that is a folder of the user's data.
    while True:
        try:
            descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o666)
        except OSError as error:
            raise UserError(f"{path}: cannot be made ({error.strerror}); is the folder writable?") from error
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.stat(path), os.fstat(descriptor)):
                break
        os.close(descriptor)  # whoever held it has removed it: what is there now, or made now, is another file
    try:
        yield
    finally:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        os.close(descriptor)
