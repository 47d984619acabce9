"""Write the pictures of jobs."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from nmt.errors import UserError
from nmt.io.files import atomic_write
from nmt.io.user_files import is_file, is_folder, shown_path

if TYPE_CHECKING:
    import numpy as np


def check_picture(path: Path, *, inputs: Iterable[Path] = ()) -> None:
    """Check, before any work, that a picture can be written.

    Args:
        path: the picture.
        inputs: the user's own images, which a picture must not replace.

    Raises:
        UserError: no name of a PNG, no such folder, or not writable; or it is one of the inputs.
    """
    name = shown_path(path)
    if is_folder(path):
        raise UserError(f"{name}: is a folder; give the picture itself, such as {shown_path(path / 'match.png')}")
    if path.suffix.lower() != ".png":
        raise UserError(f"{name}: the picture is written as PNG; give a name that ends with .png")
    if not is_folder(path.parent):
        raise UserError(f"{name}: no folder {shown_path(path.parent)}; make it first, or write elsewhere with --out")
    if not os.access(path.parent, os.W_OK):
        raise UserError(f"{name}: its folder is not writable; write elsewhere with --out")
    if is_file(path) and any(is_file(given) and path.samefile(given) for given in inputs):
        raise UserError(f"{name}: is one of the images to read; write elsewhere with --out")


def write_picture(path: Path, image_HW3: np.ndarray) -> None:
    """Write an image as PNG, whole or not at all, and print its path."""
    from PIL import Image

    with atomic_write(path) as file:
        Image.fromarray(image_HW3).save(file, "PNG")
    print(f"picture: {shown_path(path)}")
