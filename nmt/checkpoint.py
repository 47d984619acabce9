"""Checkpoints: atomic to write, safe to load, whole enough to resume at the exact step."""

from __future__ import annotations

import json
import os
import pickle
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from nmt.errors import UserError

VERSION = 1


@contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """A binary file that appears at `path` whole or not at all (written beside, synced, renamed).

    Raises UserError when the disk is full or the place is not writable; what stood at `path` before is kept.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            temporary = Path(file.name)
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        temporary.replace(path)
        temporary = None
    except OSError as error:
        raise UserError(
            f"{path}: cannot write ({error.strerror or error}); what was there before is kept: "
            f"free space or choose another --results"
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def write_json(path: Path, content: Any) -> None:
    """`content` as indented JSON, atomically."""
    with atomic_write(path) as file:
        file.write((json.dumps(content, indent=2) + "\n").encode())


def save(path: Path, content: dict[str, Any]) -> None:
    """A dictionary of tensors and plain values, atomically. Raises UserError when it cannot be written."""
    import torch

    with atomic_write(path) as file:
        _as_os_error(lambda: torch.save({"version": VERSION, **content}, file))


def _as_os_error(write: Callable[[], None]) -> None:
    """torch's writer turns a full disk into a RuntimeError; give it its name back."""
    try:
        write()
    except RuntimeError as error:
        raise OSError(first_line(error)) from error


def first_line(error: Exception) -> str:
    """What an error says, in one line; its name where it says nothing."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def load(path: Path, *, what: str = "checkpoint") -> dict[str, Any]:
    """The content of `save`, tensors on the CPU. Nothing of the file is executed.

    Raises UserError when the file is missing, damaged, or not one of ours.
    """
    import torch

    if not path.is_file():
        raise UserError(f"{path}: no {what} there")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise UserError(f"{path}: not a readable {what} ({first_line(error)})") from error
    if not isinstance(content, dict) or content.get("version") != VERSION:
        raise UserError(f"{path}: not a {what} of this project (expected version {VERSION})")
    return content
