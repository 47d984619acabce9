"""Backbone features of images, computed once per image and kept: new keypoints need no new backbone pass.

N keypoints; other letters as in nmt/model/backbone.py.
"""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from nmt.inference.inputs import read_image
from nmt.io.user_files import read_bytes
from nmt.model.backbone import Backbone, BackboneMaps

if TYPE_CHECKING:
    from nmt.inference.inputs import ImageInput

MOST_BYTES = 256 << 20
"""memory of the images and maps that are kept"""


@dataclass(frozen=True, eq=False)
class SeenImage:
    """An image and what the backbone computed of it."""

    image_HW3: np.ndarray
    """uint8, upright"""
    maps: BackboneMaps
    """of the image as the square that the model reads, a batch of one"""

    def num_bytes(self) -> int:
        """Return the memory that it takes."""
        return int(self.image_HW3.nbytes + sum(value.nbytes for value in self.maps))


class ImageFeatures:
    """A backbone with a memory of the images that it saw last, found again by their content.

    Each image passes alone, so that its features do not depend on the others of a call.

    Args:
        backbone: in evaluation mode.
        image_size: side of the square that it reads, pixels.
        device: where it runs.
        most_bytes: memory of the images and maps that are kept; the least recently used go first.
    """

    def __init__(
        self, backbone: Backbone, image_size: int, *, device: torch.device, most_bytes: int = MOST_BYTES
    ) -> None:
        self._backbone, self._size, self._device = backbone, image_size, device
        self._most_bytes, self._bytes = most_bytes, 0
        self._seen: OrderedDict[bytes, SeenImage] = OrderedDict()

    def see(self, image: ImageInput, *, source: str) -> SeenImage:
        """Read an image and compute its maps, or find both in the memory.

        Args:
            image: a path, a PIL image, or an array (H, W, 3) of uint8.
            source: what error messages call an image that is not a file.

        Raises:
            UserError: see `read_image`.
        """
        if isinstance(image, str | os.PathLike):
            image_HW3, key = None, hashlib.sha256(read_bytes(Path(image), what="image")).digest()
        else:
            image_HW3 = read_image(image, source=source)
            found = hashlib.sha256(repr(image_HW3.shape).encode())
            found.update(np.ascontiguousarray(image_HW3).data)
            key = found.digest()
        if (seen := self._seen.get(key)) is not None:
            self._seen.move_to_end(key)
            return seen
        image_HW3 = read_image(image, source=source) if image_HW3 is None else image_HW3.copy()
        image_HW3.flags.writeable = False  # the next user of the image finds this very array
        seen = SeenImage(image_HW3, self._maps(image_HW3))
        self._keep(key, seen)
        return seen

    def sample(self, seen: SeenImage, points_N2: np.ndarray) -> Tensor:
        """Read the maps at keypoints, (N, C) float32.

        Args:
            points_N2: float32, pixels of the square.
        """
        points_BN2 = torch.from_numpy(points_N2)[None].to(self._device)
        return self._backbone.sample(seen.maps, points_BN2)[0]

    def _maps(self, image_HW3: np.ndarray) -> BackboneMaps:
        square = Image.fromarray(image_HW3).resize((self._size, self._size), Image.Resampling.BILINEAR)
        image_3HW = torch.from_numpy(np.array(square)).permute(2, 0, 1)
        maps: BackboneMaps = self._backbone(image_3HW[None].to(self._device))
        return maps

    def _keep(self, key: bytes, seen: SeenImage) -> None:
        self._seen[key] = seen
        self._bytes += seen.num_bytes()
        while self._bytes > self._most_bytes:
            _, dropped = self._seen.popitem(last=False)
            self._bytes -= dropped.num_bytes()
