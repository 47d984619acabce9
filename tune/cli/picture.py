"""Write the pictures of jobs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from nmt.io.files import atomic_write


def write_picture(path: Path, image_HW3: np.ndarray) -> None:
    """Write an image as PNG, whole or not at all, and print its path."""
    with atomic_write(path) as file:
        Image.fromarray(image_HW3).save(file, "PNG")
    print(f"picture: {path}")
