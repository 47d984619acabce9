"""Geometric augmentation of one image: turned, mirrored and scaled about its centre, its keypoints with it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from nmt.config import DataConfig

_MEAN_STEP = 8
"""the mean colour is taken of every eighth pixel each way"""


@dataclass(frozen=True)
class Transform:
    """p -> linear p + offset, in pixels."""

    linear_22: np.ndarray
    offset_2: np.ndarray
    mirrored: bool

    def points(self, points_N2: np.ndarray) -> np.ndarray:
        """(N, 2) float32: where the points go; perhaps out of the image."""
        moved_N2: np.ndarray = points_N2 @ self.linear_22.T + self.offset_2
        return moved_N2.astype(np.float32)

    def image(self, image_HW3: np.ndarray) -> np.ndarray:
        """The image moved; what comes into sight beyond it has its mean colour."""
        back_22 = np.linalg.inv(self.linear_22)  # Pillow asks where each pixel comes from
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
    """Whether images are moved at all."""
    return config.rotation > 0 or config.mirror > 0 or config.scale > 0


def draw_transform(rng: np.random.Generator, config: DataConfig) -> Transform | None:
    """A random move; None for none at all. Three draws, whatever they give."""
    mirrored = bool(rng.random() < config.mirror)
    angle = np.deg2rad(config.rotation) * rng.uniform(-1, 1)
    scale = 1 + config.scale * rng.uniform(-1, 1)
    if not mirrored and angle == 0 and scale == 1:
        return None
    return similarity(config.image_size, angle=float(angle), scale=float(scale), mirrored=mirrored)


def similarity(size: int, *, angle: float, scale: float, mirrored: bool) -> Transform:
    """Mirrored left to right, then turned by `angle` (radians) and scaled, about the centre of a square of `size`."""
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    linear_22 = np.array([[cos, -sin], [sin, cos]]) @ np.diag([-1.0 if mirrored else 1.0, 1.0])
    centre_2 = np.full(2, size / 2)
    return Transform(linear_22, centre_2 - linear_22 @ centre_2, mirrored)


def inside(points_N2: np.ndarray, size: int) -> np.ndarray:
    """(N,) bool: points in the image, its edge included."""
    in_range_N2 = (points_N2 >= 0) & (points_N2 <= size)
    return in_range_N2[:, 0] & in_range_N2[:, 1]
