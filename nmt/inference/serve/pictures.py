"""The pictures that pages have sent, as the matcher and the page need them, in memory alone.

Letters as in nmt/batch.py; S pixels of a side of the square that the matcher reads.
"""

from __future__ import annotations

import hashlib
import io
import threading
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
from PIL import Image

from nmt.errors import UserError
from nmt.inference.inputs import MIN_SIDE
from nmt.io.images import decode_image

MAX_PIXELS = 64_000_000
"""of a picture: what telephones take, and a decoded picture of 200 MB at a time"""
SHOWN_PIXELS = 1600
"""longer side of a picture as the page shows it"""
KEPT = 128
"""pictures in memory; the one that was used longest ago leaves first, and its page sends it again"""


class GoneError(UserError):
    """A picture that is not held, or no longer."""


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture, upright. Points on it are pixels (x, y) of `width` times `height`."""

    id: str
    width: int
    height: int
    square_SS3: np.ndarray
    """uint8: the picture as the matcher reads it"""
    jpeg: bytes
    """the picture as the page shows it"""

    def to_square(self, points_N2: np.ndarray) -> np.ndarray:
        """Move points of the picture to its square."""
        side = len(self.square_SS3)
        return np.minimum(points_N2 * (side / self.width, side / self.height), side)

    def describe(self) -> dict[str, str | int]:
        """Return what a page has to know of it."""
        return {"id": self.id, "width": self.width, "height": self.height}


class Pictures:
    """Holds the pictures used last. Safe to use from several threads."""

    def __init__(self, side: int) -> None:
        """Start empty.

        Args:
            side: pixels of the square that the matcher reads.
        """
        self._side, self._lock = side, threading.Lock()
        self._held: OrderedDict[str, Picture] = OrderedDict()

    def add(self, content: bytes, name: str) -> Picture:
        """Decode the content of an image file; the same content is the same picture.

        Raises:
            UserError: not a readable image, too large, or too small.
        """
        key = hashlib.sha256(content).hexdigest()[:32]
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
                return self._held[key]
        image = decode_image(content, source=name, most=MAX_PIXELS)
        if min(image.size) < MIN_SIDE:
            raise UserError(
                f"{name}: {image.width} x {image.height} pixels, but at least {MIN_SIDE} x {MIN_SIDE} are needed to "
                "match; give the photograph itself"
            )
        return self._hold(key, image)

    def add_array(self, image_HW3: np.ndarray) -> Picture:
        """Hold an image that is decoded already."""
        key = hashlib.sha256(image_HW3.tobytes()).hexdigest()[:32]
        return self._hold(key, Image.fromarray(image_HW3))

    def _hold(self, key: str, image: Image.Image) -> Picture:
        shown = image
        if max(image.size) > SHOWN_PIXELS:
            scale = SHOWN_PIXELS / max(image.size)
            size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
            shown = image.resize(size, Image.Resampling.LANCZOS, reducing_gap=2)
        buffer = io.BytesIO()
        shown.save(buffer, "JPEG", quality=90)
        # The resizing of ImageMatcher, so that both match alike; the square itself is never resized again.
        square = image.resize((self._side, self._side), Image.Resampling.BILINEAR)
        picture = Picture(key, image.width, image.height, np.asarray(square), buffer.getvalue())
        with self._lock:
            self._held[key] = picture
            self._held.move_to_end(key)
            while len(self._held) > KEPT:
                self._held.popitem(last=False)
        return picture

    def get(self, key: str) -> Picture:
        """Return a picture by its id. Raises GoneError."""
        with self._lock:
            if key not in self._held:
                raise GoneError("this picture is no longer held; send it again")
            self._held.move_to_end(key)
            return self._held[key]
