"""Augmentation of a training pair in images mode: random erasing, CutMix and MixUp on uint8 images.

The probabilities and sizes are the published ones (arXiv 2503.17715 and its code), without two faults of that code. A
mixed image stays uint8 and is normalised like any other; the published code feeds it to the backbone as 0 to 255.
Another image is decoded only when it is mixed in; the published code decodes two more for every sample. Which images
are mixed in is `data.mix_partner`.

Erasing and CutMix change the source image. Keypoints that they cover are dropped from both images. A cut that would
leave fewer than two keypoints is not made.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from nmt.config import DataConfig

PUBLISHED_SIZE = 384
"""side of the image that HOLE_SIDE refers to, pixels; holes shrink with smaller images"""
HOLE_SIDE = (20, 40)
"""shortest and longest side of an erased rectangle, pixels at PUBLISHED_SIZE"""
CUTMIX_MAX_SIDE = 0.3
"""largest side of a CutMix box, as a share of the image's side"""
MIXUP_BETA = 0.8
MIXUP_RANGE = (0.4, 0.6)
"""smallest and largest weight of the image itself in MixUp"""
MIN_LEFT = 2
"""keypoints that must stay visible"""
MIX_ROWS = 48
"""image rows mixed at a time"""

Box = tuple[int, int, int, int]
"""x0, y0, x1, y1: pixels x0 <= x < x1, y0 <= y < y1"""


@dataclass(frozen=True)
class AugmentedPair:
    """Images of a pair after augmentation, and the keypoints that are left."""

    image0_HW3: np.ndarray
    """uint8"""
    image1_HW3: np.ndarray
    """uint8"""
    keep_N: np.ndarray
    """bool: source keypoints that are still visible; the others are dropped from both images"""


def augment_pair(
    rng: np.random.Generator,
    image0_HW3: np.ndarray,
    image1_HW3: np.ndarray,
    points0_N2: np.ndarray,
    *,
    other_image: Callable[[], np.ndarray],
    config: DataConfig,
    out: tuple[np.ndarray | None, np.ndarray | None] = (None, None),
) -> AugmentedPair:
    """Augment a pair at random; the inputs are not changed.

    Args:
        rng: generator of all draws.
        image0_HW3, image1_HW3: source and target image, uint8.
        points0_N2: source keypoints (x, y), pixels.
        other_image: draws another image of the same split, for CutMix and MixUp.
        config: probabilities of erasing, CutMix and MixUp.
        out: memory for the two results, uint8 (H, W, 3); None: new memory where an image changes.
    """
    keep_N = np.ones(len(points0_N2), bool)
    size = image0_HW3.shape[0]
    if rng.random() < config.erasing:
        boxes = erasing_boxes(rng, size)
        left_N = keep_N & ~covered(points0_N2, boxes)
        if left_N.sum() >= MIN_LEFT:
            image0_HW3, keep_N = erase(image0_HW3, boxes, out[0]), left_N
    if rng.random() < config.cutmix:
        box = cutmix_box(rng, size)
        left_N = keep_N & ~covered(points0_N2, [box])
        if left_N.sum() >= MIN_LEFT:
            image0_HW3, keep_N = paste(image0_HW3, other_image(), box, out[0]), left_N
    if rng.random() < config.mixup:
        image0_HW3 = mix(image0_HW3, other_image(), mixup_weight(rng), out[0])
    if rng.random() < config.mixup:
        image1_HW3 = mix(image1_HW3, other_image(), mixup_weight(rng), out[1])
    return AugmentedPair(image0_HW3, image1_HW3, keep_N)


def erasing_boxes(rng: np.random.Generator, size: int) -> list[Box]:
    """Draw one or two rectangles inside an image of side `size`, their sides 20 to 40 pixels at 384."""
    low, high = (max(1, round(side * size / PUBLISHED_SIZE)) for side in HOLE_SIDE)
    boxes = []
    for _ in range(rng.integers(1, 3)):
        width, height = (int(s) for s in rng.integers(low, high + 1, 2))
        x0, y0 = int(rng.integers(0, size - width + 1)), int(rng.integers(0, size - height + 1))
        boxes.append((x0, y0, x0 + width, y0 + height))
    return boxes


def cutmix_box(rng: np.random.Generator, size: int) -> Box:
    """Draw a square about a random centre, clipped to the image (CutMix, arXiv 1905.04899).

    Its side is sqrt(1 - Beta(1, 1)) of the image's side, at most 0.3 of it.
    """
    # Beta(1, 1) is the uniform distribution.
    half = int(size * min(np.sqrt(1 - rng.random()), CUTMIX_MAX_SIDE)) // 2
    x, y = (int(c) for c in rng.integers(0, size, 2))
    return max(x - half, 0), max(y - half, 0), min(x + half, size), min(y + half, size)


def mixup_weight(rng: np.random.Generator) -> float:
    """Draw the weight of the image itself in MixUp (arXiv 1710.09412): Beta(0.8, 0.8) clipped to [0.4, 0.6]."""
    return float(np.clip(rng.beta(MIXUP_BETA, MIXUP_BETA), *MIXUP_RANGE))


def covered(points_N2: np.ndarray, boxes: list[Box]) -> np.ndarray:
    """Return which keypoints (N, 2) lie inside any of the boxes: (N,) bool."""
    inside_N = np.zeros(len(points_N2), bool)
    x_N, y_N = points_N2[:, 0], points_N2[:, 1]
    for x0, y0, x1, y1 in boxes:
        inside_N |= (x0 <= x_N) & (x_N < x1) & (y0 <= y_N) & (y_N < y1)
    return inside_N


def erase(image_HW3: np.ndarray, boxes: list[Box], out_HW3: np.ndarray | None = None) -> np.ndarray:
    """Return a copy of the image with the boxes black, made in `out_HW3` unless None."""
    image_HW3 = _copy(image_HW3, out_HW3)
    for x0, y0, x1, y1 in boxes:
        image_HW3[y0:y1, x0:x1] = 0
    return image_HW3


def paste(image_HW3: np.ndarray, other_HW3: np.ndarray, box: Box, out_HW3: np.ndarray | None = None) -> np.ndarray:
    """Return a copy of the image with one box taken from another image, made in `out_HW3` unless None."""
    x0, y0, x1, y1 = box
    image_HW3 = _copy(image_HW3, out_HW3)
    image_HW3[y0:y1, x0:x1] = other_HW3[y0:y1, x0:x1]
    return image_HW3


def _copy(image_HW3: np.ndarray, out_HW3: np.ndarray | None) -> np.ndarray:
    """Copy an image to memory that may be written: `out_HW3` (which may hold it already), else new memory."""
    if out_HW3 is None:
        return image_HW3.copy()
    if image_HW3 is not out_HW3:
        out_HW3[:] = image_HW3
    return out_HW3


def mix(image_HW3: np.ndarray, other_HW3: np.ndarray, weight: float, out_HW3: np.ndarray | None = None) -> np.ndarray:
    """Mix two uint8 images: weight * image + (1 - weight) * other, made in `out_HW3` unless None.

    The weight is rounded to 1/256, so that the arithmetic is in 16-bit integers and the result is exact on any machine.
    """
    share = round(weight * 256)
    mixed_HW3 = np.empty_like(image_HW3) if out_HW3 is None else out_HW3
    # Blocks of rows stay in the cache. A 16-bit copy of the whole image would be new memory each time, which cost
    # 0.9 ms per image.
    for y in range(0, len(image_HW3), MIX_ROWS):
        block_hW3 = image_HW3[y : y + MIX_ROWS] * np.uint16(share)
        block_hW3 += other_HW3[y : y + MIX_ROWS] * np.uint16(256 - share)
        block_hW3 += 128
        block_hW3 >>= 8
        mixed_HW3[y : y + MIX_ROWS] = block_hW3
    return mixed_HW3
