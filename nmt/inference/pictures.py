"""Pictures of matched pairs: the two images side by side, a line a keypoint, right ones green, wrong ones red."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RIGHT, WRONG, UNKNOWN = (46, 204, 64), (255, 65, 54), (0, 190, 255)
GAP, LABEL = 6, 18


@dataclass(frozen=True)
class MatchedPair:
    """Two images of any proportions and the matches between them. Points are pixels (x, y) of their image."""

    image0_HW3: np.ndarray
    image1_HW3: np.ndarray
    points0_N2: np.ndarray
    points1_M2: np.ndarray
    predicted_N: np.ndarray
    """index of the matched target point, -1 = none"""
    match_N: np.ndarray | None
    """the truth; None where it is not known (lines are blue then)"""
    label: str


def draw_pair(pair: MatchedPair, *, side: int = 256) -> np.ndarray:
    """Draw the two images side by side, with a line for each match.

    Args:
        side: pixels of the square that each image is fitted into, in its own proportions.

    Returns:
        (height + label, width 0 + gap + width 1, 3) uint8; of two square images (side + label, 2 side + gap, 3).
    """
    from PIL import Image, ImageDraw

    size0, size1 = (_fitted(image, side) for image in (pair.image0_HW3, pair.image1_HW3))
    canvas = Image.new("RGB", (size0[0] + GAP + size1[0], max(size0[1], size1[1]) + LABEL), (24, 24, 27))
    for x, image, size in ((0, pair.image0_HW3, size0), (size0[0] + GAP, pair.image1_HW3, size1)):
        canvas.paste(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR), (x, LABEL))
    draw = ImageDraw.Draw(canvas)
    points0 = pair.points0_N2 * _scale(pair.image0_HW3, size0) + (0, LABEL)
    points1 = pair.points1_M2 * _scale(pair.image1_HW3, size1) + (size0[0] + GAP, LABEL)
    for n, (point, target) in enumerate(zip(points0, pair.predicted_N, strict=True)):
        if target < 0:
            continue
        colour = UNKNOWN if pair.match_N is None else RIGHT if pair.match_N[n] == target else WRONG
        draw.line([tuple(point), tuple(points1[target])], fill=colour, width=2)
        for x, y in (point, points1[target]):
            draw.ellipse([x - 3, y - 3, x + 3, y + 3], fill=colour, outline=(0, 0, 0))
    draw.text((4, 3), _caption(pair), fill=(235, 235, 235))
    return np.asarray(canvas)


def _fitted(image_HW3: np.ndarray, side: int) -> tuple[int, int]:
    """Width and height of the image, scaled so that its longer side is `side`."""
    height, width = image_HW3.shape[:2]
    scale = side / max(height, width)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _scale(image_HW3: np.ndarray, size: tuple[int, int]) -> tuple[float, float]:
    """Factors (x, y) from pixels of the image to pixels of the picture."""
    return size[0] / image_HW3.shape[1], size[1] / image_HW3.shape[0]


def _caption(pair: MatchedPair) -> str:
    if pair.match_N is None:
        return pair.label
    known = pair.match_N >= 0
    return f"{pair.label}  {int((pair.predicted_N == pair.match_N)[known].sum())} of {int(known.sum())} right"


def draw_sheet(pairs: Sequence[MatchedPair], *, columns: int = 2, side: int = 256) -> np.ndarray:
    """Draw pairs of square images on one sheet, row by row; uint8."""
    tiles = [draw_pair(pair, side=side) for pair in pairs]
    while len(tiles) % columns:
        tiles.append(np.full_like(tiles[0], 24))
    rows = [np.concatenate(tiles[i : i + columns], axis=1) for i in range(0, len(tiles), columns)]
    return np.concatenate(rows)
