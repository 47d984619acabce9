"""Images and keypoints as a user gives them, checked: files, PIL images and arrays; mappings and arrays."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from nmt.errors import UserError, one_line
from nmt.io.images import open_image, picture
from nmt.io.user_files import shown

ImageInput = str | Path | Image.Image | np.ndarray
KeypointInput = Mapping[str, tuple[float, float]] | Sequence[tuple[float, float]] | np.ndarray

MIN_KEYPOINTS = 2
"""A graph needs an edge."""
MIN_SIDE = 8
"""pixels of the shorter side of an image below which there is nothing to see"""


@dataclass(frozen=True, eq=False)
class Keypoints:
    """The keypoints of one image."""

    points_N2: np.ndarray
    """float64, pixels (x, y) of the image as it was given"""
    names: tuple[str, ...] | None
    """None where the points have no names"""


def read_image(image: ImageInput, *, source: str) -> np.ndarray:
    """Read an image upright, as viewers show it.

    Args:
        image: a path, a PIL image, or an array (H, W, 3) of uint8.
        source: what error messages call an image that is not a file.

    Returns:
        (H, W, 3) uint8.

    Raises:
        UserError: no such file, an unreadable image, or an array of another shape or type.
    """
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise UserError(f"{source}: an array must be (H, W, 3) of uint8, but got {image.shape} of {image.dtype}")
        return image
    if isinstance(image, Image.Image):
        return np.asarray(picture(image, source=source))
    if not isinstance(image, str | os.PathLike):
        raise UserError(f"{source}: expected a path, a PIL image or an array, but got {type(image).__name__}")
    return np.asarray(open_image(Path(image)))


def check_keypoints(keypoints: KeypointInput, image_HW3: np.ndarray, *, source: str) -> Keypoints:
    """Check the keypoints of an image.

    Args:
        keypoints: {name: (x, y)}, or (N, 2) points, in pixels of the image.
        source: what error messages call them.

    Raises:
        UserError: another shape, fewer than two, or a keypoint outside the image.
    """
    names = tuple(map(str, keypoints)) if isinstance(keypoints, Mapping) else None
    values: Any = list(keypoints.values()) if isinstance(keypoints, Mapping) else keypoints
    try:
        points_N2 = np.array(values, np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        expected = "keypoints must be (N, 2) numbers or {name: (x, y)}"
        raise UserError(f"{source}: {expected} ({one_line(error)})") from error
    if points_N2.shape != (0,) and (points_N2.ndim != 2 or points_N2.shape[1] != 2):
        raise UserError(f"{source}: keypoints must be (N, 2) pixels (x, y), but got shape {points_N2.shape}")
    if len(points_N2) < MIN_KEYPOINTS:
        number = f"{len(points_N2)} keypoint{'s' * (len(points_N2) != 1)}"
        raise UserError(f"{source}: {number}; matching needs at least two")
    height, width = image_HW3.shape[:2]
    if min(height, width) < MIN_SIDE:
        raise UserError(
            f"{source}: their image has {width} x {height} pixels, but at least {MIN_SIDE} x {MIN_SIDE} are needed to "
            "match; give the photograph itself"
        )
    inside_N = ((points_N2 >= 0) & (points_N2 <= (width, height))).all(axis=1)  # NaN is not inside
    if not inside_N.all():
        first = int(inside_N.argmin())
        called = shown(names[first]) if names else f"{first} at {tuple(points_N2[first].tolist())}"
        if not np.isfinite(points_N2[first]).all():
            raise UserError(f"{source}: keypoint {called} is NaN or infinite; leave out what is not labelled")
        raise UserError(
            f"{source}: keypoint {called} lies outside the image of {width} x {height} pixels; give the image that was "
            "annotated, or scale its keypoints"
        )
    if points_N2.max() <= 1 < max(width, height):
        raise UserError(
            f"{source}: all coordinates lie between 0 and 1, but pixels are read; multiply x by the image's width, "
            f"{width}, and y by its height, {height}"
        )
    return Keypoints(points_N2, names)
