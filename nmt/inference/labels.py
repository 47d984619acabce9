"""Places for the names of points in a picture, so that they cover neither each other nor a point."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Box = tuple[float, float, float, float]
"""left, top, right, bottom, pixels"""

_DIRECTIONS = ((1, 0), (-1, 0), (0, -1), (0, 1), (1, -1), (-1, -1), (1, 1), (-1, 1))
"""where a name may stand beside its point: right, left, above, below, then the corners"""
_FURTHER = (0, 6, 14)
"""pixels that a name may be further away"""


def place_labels(
    points: np.ndarray, sizes: Sequence[tuple[float, float]], image: tuple[int, int, int, int], *, gap: float
) -> list[Box | None]:
    """Find a place for the name of each point.

    The points with the most neighbours choose first. A place lies in the image, covers no name placed before, and of
    those places the one that covers the fewest points is taken, near ones first.

    Args:
        points: (N, 2) pixels of the picture.
        sizes: width and height of each name.
        image: left, top, width and height of the image.
        gap: pixels between a point and its name.

    Returns:
        The place of each name; None where there is none.
    """
    left, top, width, height = image
    around = _boxes_around(points, gap)
    distance = np.abs(points[:, None] - points[None]).max(2)
    crowded = (distance < 40).sum(1)
    places: list[Box | None] = [None] * len(points)
    taken: list[Box] = []
    for n in np.argsort(-crowded, kind="stable").tolist():
        best: tuple[float, Box] | None = None
        for box, cost in _candidates(points[n], sizes[n], gap):
            inside = left <= box[0] and top <= box[1] and box[2] <= left + width and box[3] <= top + height
            if not inside or any(_overlap(box, other) > 0 for other in taken):
                continue
            cost += sum(_overlap(box, other) for m, other in enumerate(around) if m != n)
            if best is None or cost < best[0]:
                best = (cost, box)
        if best is not None:
            places[n] = best[1]
            taken.append(best[1])
    return places


def _candidates(point: np.ndarray, size: tuple[float, float], gap: float) -> list[tuple[Box, float]]:
    """List places beside a point, each with a cost that grows with its distance."""
    x, y = point.tolist()
    width, height = size
    found = []
    for further in _FURTHER:
        for order, (right, down) in enumerate(_DIRECTIONS):
            centre_x = x + right * (gap + further + width / 2)
            centre_y = y + down * (gap + further * (right == 0 or further > 0) + height / 2)
            box = (centre_x - width / 2, centre_y - height / 2, centre_x + width / 2, centre_y + height / 2)
            found.append((box, further * 2.0 + order * 0.5))
    return found


def _boxes_around(points: np.ndarray, radius: float) -> list[Box]:
    return [(x - radius, y - radius, x + radius, y + radius) for x, y in points.tolist()]


def _overlap(one: Box, other: Box) -> float:
    """Return the area that two boxes share, pixels."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(width, 0.0) * max(height, 0.0)
