"""Geometric augmentation of one image and its keypoints: rotated, mirrored and scaled about the centre.

Not part of the published recipe, and off by default (`data.rotation`, `data.mirror`, `data.scale`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from nmt.config import DataConfig

_MEAN_STEP = 8
"""stride of the pixels whose mean colour fills the border: a 64th of the pixels gives the same colour"""


@dataclass(frozen=True)
class Transform:
    """Affine map of pixels, p -> linear p + offset."""

    linear_22: np.ndarray
    offset_2: np.ndarray
    """pixels"""
    mirrored: bool
    """True: left and right are swapped, so paired keypoints change names"""

    def points(self, points_N2: np.ndarray) -> np.ndarray:
        """Map points (N, 2), pixels, to float32 points that may lie outside the image."""
        moved_N2: np.ndarray = points_N2 @ self.linear_22.T + self.offset_2
        return moved_N2.astype(np.float32)

    def image(self, image_HW3: np.ndarray) -> np.ndarray:
        """Map a uint8 image (H, W, 3) to one of the same size; areas that it does not cover have its mean colour."""
        back_22 = np.linalg.inv(self.linear_22)  # Pillow maps pixels of the result to pixels of the input
        back_23 = np.column_stack([back_22, -back_22 @ self.offset_2])
        fill = tuple(int(c) for c in image_HW3[::_MEAN_STEP, ::_MEAN_STEP].mean((0, 1)).round())
        height, width = image_HW3.shape[:2]
        moved = Image.fromarray(image_HW3).transform(
            (width, height),
            Image.Transform.AFFINE,
            back_23.ravel().tolist(),
            Image.Resampling.BILINEAR,
            fillcolor=fill,
        )
        return np.asarray(moved)


def is_on(config: DataConfig) -> bool:
    """Return True when the configuration asks for any geometric augmentation."""
    return config.rotation > 0 or config.mirror > 0 or config.scale > 0


def draw_transform(rng: np.random.Generator, config: DataConfig) -> Transform | None:
    """Draw a random transform; None when it would change nothing.

    Always takes three draws, so that changing one probability leaves the other draws as they were.
    """
    mirrored = bool(rng.random() < config.mirror)
    angle = np.deg2rad(config.rotation) * rng.uniform(-1, 1)
    scale = 1 + config.scale * rng.uniform(-1, 1)
    if not mirrored and angle == 0 and scale == 1:
        return None
    return similarity(config.image_size, angle=float(angle), scale=float(scale), mirrored=mirrored)


def similarity(size: int, *, angle: float, scale: float, mirrored: bool) -> Transform:
    """Make the transform that mirrors left to right, then rotates and scales about the centre of a square.

    Args:
        size: side of the square, pixels.
        angle: rotation, radians.
        scale: factor on lengths.
        mirrored: mirror first.
    """
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    linear_22 = np.array([[cos, -sin], [sin, cos]]) @ np.diag([-1.0 if mirrored else 1.0, 1.0])
    centre_2 = np.full(2, size / 2)
    return Transform(linear_22, centre_2 - linear_22 @ centre_2, mirrored)


def inside(points_N2: np.ndarray, size: int) -> np.ndarray:
    """Return which points (N, 2) lie in the image, its edge included: (N,) bool."""
    in_range_N2 = (points_N2 >= 0) & (points_N2 <= size)
    return in_range_N2[:, 0] & in_range_N2[:, 1]
