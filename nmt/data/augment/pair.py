"""Augmentation of a training pair in images mode: random erasing, CutMix and MixUp on uint8 images.

As published, apart from its faults: a mixed image stays uint8 (the published code fed it unscaled), and another image
is decoded only when one is mixed in. Erasing and CutMix cut the source; what they cover is dropped from both images.
A cut that would leave fewer than two keypoints is not made.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from nmt.config import DataConfig

PUBLISHED_SIZE = 384
"""holes are given in pixels of an image of this side; smaller images get smaller holes"""
HOLE_SIDE = (20, 40)
CUTMIX_MAX_SIDE = 0.3
"""of the image's side"""
MIXUP_BETA = 0.8
MIXUP_RANGE = (0.4, 0.6)
MIN_LEFT = 2
MIX_ROWS = 48
"""mixed at a time"""

Box = tuple[int, int, int, int]
"""x0, y0, x1, y1: pixels x0 <= x < x1, y0 <= y < y1"""


@dataclass(frozen=True)
class AugmentedPair:
    image0_HW3: np.ndarray
    image1_HW3: np.ndarray
    keep_N: np.ndarray
    """bool: source keypoints still visible; the others leave both images"""


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
    """One random augmentation; the inputs are left as they are.

    Args:
        other_image: draws another image of the same split.
        out: memory for both images; one that is changed is made there, and in new memory otherwise.
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
    """One or two rectangles inside the image, each side 20 to 40 pixels at 384."""
    low, high = (max(1, round(side * size / PUBLISHED_SIZE)) for side in HOLE_SIDE)
    boxes = []
    for _ in range(rng.integers(1, 3)):
        width, height = (int(s) for s in rng.integers(low, high + 1, 2))
        x0, y0 = int(rng.integers(0, size - width + 1)), int(rng.integers(0, size - height + 1))
        boxes.append((x0, y0, x0 + width, y0 + height))
    return boxes


def cutmix_box(rng: np.random.Generator, size: int) -> Box:
    """A square about a random centre, clipped to the image: sqrt(1 - Beta(1, 1)) of its side, at most 0.3."""
    half = int(size * min(np.sqrt(1 - rng.random()), CUTMIX_MAX_SIDE)) // 2
    x, y = (int(c) for c in rng.integers(0, size, 2))
    return max(x - half, 0), max(y - half, 0), min(x + half, size), min(y + half, size)


def mixup_weight(rng: np.random.Generator) -> float:
    """Share of the image itself: Beta(0.8, 0.8) clipped to [0.4, 0.6]."""
    return float(np.clip(rng.beta(MIXUP_BETA, MIXUP_BETA), *MIXUP_RANGE))


def covered(points_N2: np.ndarray, boxes: list[Box]) -> np.ndarray:
    """(N,) bool: keypoints inside any of the boxes."""
    inside_N = np.zeros(len(points_N2), bool)
    x_N, y_N = points_N2[:, 0], points_N2[:, 1]
    for x0, y0, x1, y1 in boxes:
        inside_N |= (x0 <= x_N) & (x_N < x1) & (y0 <= y_N) & (y_N < y1)
    return inside_N


def erase(image_HW3: np.ndarray, boxes: list[Box], out_HW3: np.ndarray | None = None) -> np.ndarray:
    """A copy, in `out_HW3` where it is given, with the boxes black."""
    image_HW3 = _copy(image_HW3, out_HW3)
    for x0, y0, x1, y1 in boxes:
        image_HW3[y0:y1, x0:x1] = 0
    return image_HW3


def paste(image_HW3: np.ndarray, other_HW3: np.ndarray, box: Box, out_HW3: np.ndarray | None = None) -> np.ndarray:
    """A copy, in `out_HW3` where it is given, whose box shows the same box of another image."""
    x0, y0, x1, y1 = box
    image_HW3 = _copy(image_HW3, out_HW3)
    image_HW3[y0:y1, x0:x1] = other_HW3[y0:y1, x0:x1]
    return image_HW3


def _copy(image_HW3: np.ndarray, out_HW3: np.ndarray | None) -> np.ndarray:
    """The image in memory that may be written: `out_HW3`, where it may be already."""
    if out_HW3 is None:
        return image_HW3.copy()
    if image_HW3 is not out_HW3:
        out_HW3[:] = image_HW3
    return out_HW3


def mix(image_HW3: np.ndarray, other_HW3: np.ndarray, weight: float, out_HW3: np.ndarray | None = None) -> np.ndarray:
    """weight * image + (1 - weight) * other, in integers of 1/256, rounded; in `out_HW3` where it is given."""
    share = round(weight * 256)
    mixed_HW3 = np.empty_like(image_HW3) if out_HW3 is None else out_HW3
    # In blocks that stay in the cache: sixteen bits of the whole image are fetched from the system each time, 0.9 ms.
    for y in range(0, len(image_HW3), MIX_ROWS):
        block_hW3 = image_HW3[y : y + MIX_ROWS] * np.uint16(share)
        block_hW3 += other_HW3[y : y + MIX_ROWS] * np.uint16(256 - share)
        block_hW3 += 128
        block_hW3 >>= 8
        mixed_HW3[y : y + MIX_ROWS] = block_hW3
    return mixed_HW3
