"""Checkpoint files: written atomically, verified by SHA-256, and loaded without running anything they contain.

torch writes a zip file. Its comment, which every reader skips, holds the SHA-256 of the rest. So the hash cannot be
separated from its file: not by a crash between two renames, not by a copy, not by a storage that lags behind.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import pickle
import struct
import uuid
from pathlib import Path
from typing import IO, Any

from nmt.errors import UserError, one_line
from nmt.io.files import atomic_output, require_file

VERSION = 1
"""format of the files; increase it when older ones can no longer be read"""
_MARK = b"sha256:"
_COMMENT_BYTES = len(_MARK) + 64
_TAIL_BYTES = 2 + _COMMENT_BYTES
"""what follows the content that is hashed: the length of the zip file's comment, and the comment"""
_PIECE = 8 << 20


class DamagedError(UserError):
    """The content of a checkpoint is not what was written."""


def save(path: Path, content: dict[str, Any], *, previous: Path | None = None) -> None:
    """Write a checkpoint atomically.

    Args:
        path: the file to create or replace.
        content: tensors and plain values (numbers, strings, lists, dictionaries).
        previous: keeps what is at `path` now.

    Raises:
        UserError: a full disk, or a folder that is not writable.
    """
    with atomic_output(path) as partial:
        with partial.open("wb") as file:
            _write(file, content)
        if previous is not None and path.is_file():
            _keep(path, previous)


class _Hashed:
    """A file to write to that hashes what passes. torch.save only appends."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self.hash = file, hashlib.sha256()
        self.error: OSError | None = None
        """raised by the file; torch makes a RuntimeError of it, without the reason"""

    def write(self, piece: bytes) -> int:
        self.hash.update(piece)
        try:
            return self._file.write(piece)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self._file.flush()


def _write(file: IO[bytes], content: dict[str, Any]) -> None:
    import torch

    hashed = _Hashed(file)
    try:
        torch.save({"version": VERSION, **content}, hashed)  # type: ignore[arg-type]
    except RuntimeError as error:
        raise hashed.error or error from None
    file.seek(-2, os.SEEK_END)  # a zip file ends with the length of its comment, 0 so far
    file.write(struct.pack("<H", _COMMENT_BYTES) + _MARK + hashed.hash.hexdigest().encode())


def _keep(path: Path, previous: Path) -> None:
    """Make `previous` the file at `path`, which stays where it is too if the file system has hard links."""
    link = previous.with_name(f".{previous.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        os.link(path, link)
        link.replace(previous)
    except OSError:
        path.replace(previous)  # a crash before the new file is in its place leaves `previous` alone, which is whole
    finally:
        with contextlib.suppress(OSError):  # still there if `previous` was the same file before
            link.unlink(missing_ok=True)


def digest(path: Path) -> str | None:
    """Return the SHA-256 that the checkpoint carries; None for one that was written without."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - _COMMENT_BYTES, 0))
        comment = file.read()
    return comment.removeprefix(_MARK).decode(errors="replace") if comment.startswith(_MARK) else None


def verify(path: Path, *, what: str = "checkpoint") -> bool:
    """Compare the content of a checkpoint with the SHA-256 that it carries.

    Args:
        path: the file.
        what: what the messages call it.

    Returns:
        False for a file without a hash, about which nothing is known.

    Raises:
        DamagedError: the content is not what was written.
    """
    written = digest(path)
    if written is None:
        return False
    found = hashlib.sha256()
    with path.open("rb") as file:
        left = file.seek(0, os.SEEK_END) - _TAIL_BYTES
        file.seek(0)
        while left > 0 and (piece := file.read(min(_PIECE, left))):
            found.update(piece)
            left -= len(piece)
        length = file.read(2)
    found.update(b"\0\0")  # the length of the comment when the content was hashed
    if length != struct.pack("<H", _COMMENT_BYTES) or found.hexdigest() != written:
        raise DamagedError(
            f"{path}: a damaged {what}: its content is not what was written (SHA-256); restore the file, or train again"
        )
    return True


def load(path: Path, *, what: str = "checkpoint") -> dict[str, Any]:
    """Load what `save` wrote, with tensors on the CPU. No code in the file is run (weights_only).

    Args:
        path: the file.
        what: what the messages call it.

    Raises:
        DamagedError: the content is not what was written.
        UserError: the file is missing, or not of this project.
    """
    import torch

    require_file(path, what)
    verified = False
    try:
        verified = verify(path, what=what)
        # weights_only: a checkpoint is a pickle, and a pickle from elsewhere could run any code.
        content = torch.load(path, map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        if "DefaultCPUAllocator" in str(error):  # no memory for it: the file may be whole
            raise
        # torch reports some cut files as an invalid argument; any other OSError is of the disk, not of the content.
        of_disk = isinstance(error, OSError) and error.errno != errno.EINVAL
        kind = UserError if of_disk or verified else DamagedError
        raise kind(f"{path}: not a readable {what} ({one_line(error)})") from error
    if not isinstance(content, dict) or content.get("version") != VERSION:
        raise UserError(f"{path}: not a {what} of this project (expected version {VERSION})")
    return content


# What torch and pickle make of a file that is cut or overwritten, beside an error of the disk itself.
_UNREADABLE = (
    OSError, RuntimeError, EOFError, ValueError, LookupError, TypeError, AttributeError, struct.error, OverflowError,
    pickle.UnpicklingError,
)  # fmt: skip
