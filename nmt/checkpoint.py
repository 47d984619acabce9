"""Checkpoints: atomic to write, safe to load, whole enough to resume at the exact step."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nmt.errors import UserError, one_line
from nmt.io.files import atomic_write, require_file

VERSION = 1


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
        raise OSError(one_line(error)) from error


def load(path: Path, *, what: str = "checkpoint") -> dict[str, Any]:
    """The content of `save`, tensors on the CPU. Nothing of the file is executed.

    Raises UserError when the file is missing, damaged, or not one of ours.
    """
    import torch

    require_file(path, what)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise UserError(f"{path}: not a readable {what} ({one_line(error)})") from error
    if not isinstance(content, dict) or content.get("version") != VERSION:
        raise UserError(f"{path}: not a {what} of this project (expected version {VERSION})")
    return content
