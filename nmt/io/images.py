"""Read the images that users give: upright, in colour, whatever the file holds, or one line that names it."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from nmt.errors import UserError, one_line
from nmt.io.user_files import shown_path, unreadable

MAX_PIXELS = 178_956_970
"""largest image that is decoded; a larger one could be a small file that fills the memory"""


def open_image(path: Path, *, size: tuple[int, int] | None = None) -> Image.Image:
    """Read an image as RGB, rotated as its EXIF orientation asks: annotation tools show it that way.

    Args:
        path: the image file.
        size: width and height of the image that was annotated, pixels. Where only the unrotated image has this size,
            the annotation tool ignored EXIF, and the image is not rotated.

    Raises:
        UserError: no such file, not an image, damaged, too large, or of another size.
    """
    try:
        with warnings.catch_warnings(), Image.open(path) as file:
            warnings.simplefilter("ignore")  # Pillow warns of half the size that it refuses, and of odd metadata
            stored = _eight_bits(file)
            image = upright(stored).convert("RGB")
            if size not in (None, image.size) and size == stored.size:
                image = stored.convert("RGB")
    except FileNotFoundError:
        raise UserError(f"{shown_path(path)}: no such image") from None
    except PermissionError as error:
        raise unreadable(path, error) from error
    except Exception as error:  # Pillow raises OSError, SyntaxError, ValueError and more for damaged files
        raise UserError(f"{shown_path(path)}: not a readable image ({one_line(error)})") from error
    if size not in (None, image.size):
        raise UserError(f"{path}: {image.width} x {image.height} pixels, but its annotation says {size[0]} x {size[1]}")
    return image


def upright(image: Image.Image) -> Image.Image:
    """Return the image rotated as its EXIF orientation asks."""
    return ImageOps.exif_transpose(image)


def _eight_bits(image: Image.Image) -> Image.Image:
    """Scale 16-bit grey values to 8 bits, for Pillow's conversion clips them at 255; return other images unchanged."""
    image.load()
    if not image.mode.startswith("I"):
        return image
    reduced = Image.fromarray((np.asarray(image).clip(0, 65535) // 256).astype(np.uint8))
    reduced.info = image.info
    return reduced
