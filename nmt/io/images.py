"""Read the images that users give: upright, in colour, whatever the file holds, or one line that names it.

The picture is what viewers show. The EXIF orientation is applied; metadata that cannot be read is ignored. Of several
frames or pages the first is read. Transparent images are laid on white. Grey values of more than 8 bits are scaled:
the smallest becomes black and the largest white, as viewers of 16-bit and float images do.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from nmt.errors import UserError, one_line
from nmt.io.magic import kind_of
from nmt.io.user_files import open_file, shown_path

MAX_PIXELS = 178_956_970
"""largest image that is decoded, which is Pillow's limit; a small file of more pixels could fill the memory"""

_CONVERT, _AGAIN = "convert it to JPEG or PNG", "copy or download it again"

_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""value of the EXIF orientation -> what turns the image upright; all other values leave it as it is"""
_DRAWINGS = ("EPS", "WMF")
"""formats that Pillow hands to another program to draw"""
_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_PICTURE = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
_STDERR = threading.Lock()


class _RefusedError(ValueError):
    """An image that is not damaged and cannot be read; the message says what to do."""


def open_image(path: Path, *, size: tuple[int, int] | None = None) -> Image.Image:
    """Read an image as RGB, rotated as its EXIF orientation asks: annotation tools show it that way.

    Args:
        path: the image file.
        size: width and height of the image that was annotated, pixels. Where only the unrotated image has this size,
            the annotation tool ignored EXIF, and the image is not rotated.

    Raises:
        UserError: no such file, not an image, damaged, too large, or of another size.
    """
    with open_file(path, what="image") as file, _one_line(shown_path(path), file):
        stored = _decoded(file)
        image = to_rgb(stored)
        if size not in (None, image.size) and size == stored.size:
            image = _in_colour(stored)
    if size not in (None, image.size):
        raise UserError(
            f"{shown_path(path)}: {image.width} x {image.height} pixels, but its annotation says {size[0]} x "
            f"{size[1]}; give the image that was annotated, or scale the annotation"
        )
    return image


def decode_image(content: bytes, *, source: str, most: int = MAX_PIXELS) -> Image.Image:
    """Decode the content of an image file as `open_image` does.

    Args:
        content: the bytes of the file.
        source: what error messages call it.
        most: largest number of pixels; a larger image is refused before it is decoded.

    Raises:
        UserError: not an image, damaged, or too large.
    """
    file = io.BytesIO(content)
    with _one_line(source, file, most=most):
        width, height = Image.open(file).size
        if width * height > most:
            raise Image.DecompressionBombError(f"{width * height} pixels")
        file.seek(0)
        return to_rgb(_decoded(file))


def picture(image: Image.Image, *, source: str) -> Image.Image:
    """Convert an image of Pillow, perhaps not loaded yet, to RGB, upright.

    Args:
        image: any mode; of several frames the one it stands at.
        source: what error messages call it.

    Raises:
        UserError: it is empty, or cannot be loaded or converted.
    """
    if not all(image.size):
        raise UserError(f"{source}: an image of {image.width} x {image.height} pixels is empty")
    with _one_line(source):
        return to_rgb(image)


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert an image to RGB and turn it upright. Raises whatever Pillow does, or ValueError."""
    _load(image)
    turn = _TURNS.get(_orientation(image))
    colour = _in_colour(image)
    return colour if turn is None else colour.transpose(turn)


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(_ORIENTATION)
    except Exception:  # damaged EXIF raises SyntaxError, struct.error, ...; viewers show the image without it
        return 1
    return value if isinstance(value, int) else 1


def _in_colour(image: Image.Image) -> Image.Image:
    if image.mode == "F" or image.mode.startswith("I"):
        return _scaled(image).convert("RGB")
    if image.mode == "La":
        image = image.convert("LA")  # Pillow converts it to nothing else
    if not image.has_transparency_data:
        return image.convert("RGB")
    # convert("RGB") alone would show what lies below transparent pixels, often black or noise.
    layer = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")


def _scaled(image: Image.Image) -> Image.Image:
    """Scale grey values to 0..255 by their range; an image of one value becomes black.

    Pillow's own conversion clips them at 255, which leaves most such images white.
    """
    values_HW = np.asarray(image).astype(np.float64)
    low, high = values_HW.min(), values_HW.max()
    if not np.isfinite(low + high):
        raise _RefusedError("it holds NaN or infinite values; replace them by numbers")
    values_HW -= low
    if high > low:
        values_HW *= 255 / (high - low)
    return Image.fromarray(values_HW.round().astype(np.uint8))


def _decoded(file: BinaryIO) -> Image.Image:
    """Decode the first frame; a PNG whose metadata is damaged is decoded without them."""
    try:
        image = Image.open(file)
        if image.format in _DRAWINGS:
            raise _RefusedError(f"it is a drawing ({image.format}); {_CONVERT}")
        _load(image)
    except (OSError, SyntaxError, ValueError):
        file.seek(0)
        if file.read(len(_PNG)) != _PNG:
            raise
        image = Image.open(io.BytesIO(_png_picture(file)))
        _load(image)
    return image


def _load(image: Image.Image) -> None:
    """Decode an image. libtiff writes errors to standard error by itself, so that is closed for a TIFF."""
    if image.format != "TIFF":
        image.load()
        return
    with _STDERR, contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # a process without standard error
            kept = os.dup(2)
            stack.callback(os.close, kept)
            stack.callback(os.dup2, kept, 2)
            with open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), 2)
        image.load()


def _png_picture(file: BinaryIO) -> bytes:
    """Return a PNG file without its metadata, which viewers skip where they are damaged; `file` stands behind _PNG."""
    kept = [_PNG]
    while len(head := file.read(8)) == 8:
        length = int.from_bytes(head[:4], "big")
        if head[4:] in _PNG_PICTURE:
            kept += [head, file.read(length + 4)]
        else:
            file.seek(length + 4, io.SEEK_CUR)
    return b"".join(kept)


@contextlib.contextmanager
def _one_line(source: str, file: BinaryIO | None = None, *, most: int = MAX_PIXELS) -> Iterator[None]:
    """Turn what Pillow raises into a UserError, and keep its warnings and its log from the user.

    Args:
        source: what messages call the image.
        file: the image file; its first bytes tell what it holds.
        most: largest number of pixels that is decoded, for the message.
    """
    log = logging.getLogger("PIL")
    level = log.level
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of half the size that it refuses, and of odd metadata
            log.setLevel(logging.CRITICAL)
            yield
    except Image.DecompressionBombError as error:
        pixels = re.search(r"\d+", str(error))
        found = f"{int(pixels[0]) / 1e6:,.0f}" if pixels else "too many"
        raise UserError(
            f"{source}: {found} megapixels, but at most {most / 1e6:.0f} are read; save a smaller copy, and "
            "scale its keypoints with it"
        ) from error
    except MemoryError as error:
        raise UserError(f"{source}: this image needs more memory than there is; save a smaller copy") from error
    except Exception as error:  # Pillow raises OSError, SyntaxError, ValueError and more for damaged files
        raise UserError(f"{source}: not a readable image ({_reason(error, file)})") from error
    finally:
        log.setLevel(level)


def _reason(error: Exception, file: BinaryIO | None) -> str:
    """Say why an image is not readable: what Pillow says, or what the file holds where Pillow does not know it."""
    if file is None or isinstance(error, _RefusedError):
        return one_line(error)
    if not isinstance(error, UnidentifiedImageError):
        return f"{one_line(error)}; {_AGAIN}"
    file.seek(0)
    kind = kind_of(file.read(512))
    if kind is None:
        return f"its format is not known; {_CONVERT}"
    if kind in ("a JPEG image", "a PNG image"):
        return f"{kind} that is damaged; {_AGAIN}"
    if kind.endswith((" image", "drawing", "(CR3)")):
        return f"{kind} that cannot be decoded; {_CONVERT}"
    return f"it is {kind}" if kind.endswith(")") else f"it is {kind}; {_AGAIN}, or give an image"
