"""Checkpoint files: written atomically, and loaded without running anything they contain."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nmt.errors import UserError, one_line
from nmt.io.files import atomic_write, require_file

VERSION = 1
"""format of the files; increase it when older ones can no longer be read"""


def save(path: Path, content: dict[str, Any]) -> None:
    """Write a checkpoint atomically.

    Args:
        path: the file to create or replace.
        content: tensors and plain values (numbers, strings, lists, dictionaries).

    Raises:
        UserError: a full disk, or a folder that is not writable.
    """
    import torch

    with atomic_write(path) as file:
        _as_os_error(lambda: torch.save({"version": VERSION, **content}, file))


def _as_os_error(write: Callable[[], None]) -> None:
    """Turn the RuntimeError that torch's writer makes of a full disk back into an OSError."""
    try:
        write()
    except RuntimeError as error:
        raise OSError(one_line(error)) from error


def load(path: Path, *, what: str = "checkpoint") -> dict[str, Any]:
    """Load what `save` wrote, with tensors on the CPU. No code in the file is run (weights_only).

    Args:
        path: the file.
        what: what the messages call it.

    Raises:
        UserError: the file is missing, damaged, or not of this project.
    """
    import torch

    require_file(path, what)
    try:
        # weights_only: a checkpoint is a pickle, and a pickle from elsewhere could run any code.
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise UserError(f"{path}: not a readable {what} ({one_line(error)})") from error
    if not isinstance(content, dict) or content.get("version") != VERSION:
        raise UserError(f"{path}: not a {what} of this project (expected version {VERSION})")
    return content
