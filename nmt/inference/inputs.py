"""Images and keypoints as a user gives them, checked: files, PIL images and arrays; CSV files, mappings and arrays."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nmt.errors import UserError

if TYPE_CHECKING:
    from PIL.Image import Image

    ImageInput = str | Path | Image | np.ndarray
    KeypointInput = Mapping[str, tuple[float, float]] | Sequence[tuple[float, float]] | np.ndarray

MIN_KEYPOINTS = 2
"""A graph needs an edge."""


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
    from PIL import Image, ImageOps, UnidentifiedImageError

    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise UserError(f"{source}: an array must be (H, W, 3) of uint8, but got {image.shape} of {image.dtype}")
        return image
    if isinstance(image, Image.Image):
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    path = Path(image)
    try:
        with Image.open(path) as file:
            return np.asarray(ImageOps.exif_transpose(file).convert("RGB"))
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such image") from error
    except (OSError, UnidentifiedImageError, ValueError) as error:
        raise UserError(f"{path}: not a readable image ({error})") from error


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
    except (TypeError, ValueError) as error:
        raise UserError(f"{source}: keypoints must be (N, 2) numbers or {{name: (x, y)}} ({error})") from error
    if len(points_N2) and (points_N2.ndim != 2 or points_N2.shape[1] != 2):
        raise UserError(f"{source}: keypoints must be (N, 2) pixels (x, y), but got shape {points_N2.shape}")
    if len(points_N2) < MIN_KEYPOINTS:
        raise UserError(f"{source}: {len(points_N2)} keypoints; matching needs at least two")
    height, width = image_HW3.shape[:2]
    inside_N = ((points_N2 >= 0) & (points_N2 <= (width, height))).all(axis=1)  # NaN is not inside
    if not inside_N.all():
        first = int(inside_N.argmin())
        shown = repr(names[first]) if names else f"{first} at {tuple(points_N2[first].tolist())}"
        raise UserError(f"{source}: keypoint {shown} lies outside the image of {width} x {height} pixels")
    return Keypoints(points_N2, names)


def read_keypoint_file(path: Path) -> dict[str, tuple[float, float]]:
    """Read a CSV file with one keypoint per line: name,x,y in pixels. Raises UserError."""
    named: dict[str, tuple[float, float]] = {}
    try:
        with path.open(newline="") as file:
            for number, row in enumerate(csv.reader(file), start=1):
                if not row or row == ["name", "x", "y"]:
                    continue
                try:
                    name, x, y = row
                    named[name] = (float(x), float(y))
                except ValueError as error:
                    raise UserError(
                        f"{path}:{number}: expected name,x,y in pixels, but got {','.join(row)!r}"
                    ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a readable keypoint file ({error}); expected lines name,x,y in pixels") from error
    return named
