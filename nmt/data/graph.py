"""Keypoint graphs: Delaunay edges in both directions and their attributes (N keypoints, E edges, T triangles)."""

from __future__ import annotations

import functools

import numpy as np
from scipy.spatial import Delaunay, QhullError


def delaunay_edges(points_N2: np.ndarray) -> np.ndarray:
    """Compute the edges of the Delaunay triangulation, both directions.

    Fewer than three points, or points that Qhull cannot triangulate even joggled (option QJ), are fully connected.

    Args:
        points_N2: keypoints (x, y), pixels.

    Returns:
        (2, E) int16 (from, to), ordered by (from, to).
    """
    num = len(points_N2)
    linked_NN = np.zeros((num, num), bool)
    triangles_T3 = _triangulate(points_N2) if num >= 3 else None
    if triangles_T3 is None:
        linked_NN[:] = True
        np.fill_diagonal(linked_NN, False)
    else:
        linked_NN[triangles_T3[:, [0, 1, 2, 1, 2, 0]], triangles_T3[:, [1, 2, 0, 0, 1, 2]]] = True
    return np.array(linked_NN.nonzero(), np.int16)


@functools.lru_cache(maxsize=1 << 16)
def remembered_edges(points_bytes: bytes) -> np.ndarray:
    """Compute `delaunay_edges` with a cache, for the same keypoint sets return in each epoch.

    Args:
        points_bytes: float32 points (N, 2) as bytes, which can be a key of the cache.

    Returns:
        (2, E) int16, read-only because it is shared.
    """
    edges_2E = delaunay_edges(np.frombuffer(points_bytes, np.float32).reshape(-1, 2))
    edges_2E.flags.writeable = False
    return edges_2E


def _triangulate(points_N2: np.ndarray) -> np.ndarray | None:
    """Return the triangles (T, 3), or None where Qhull fails."""
    for options in (None, "QJ"):  # Qhull's defaults, then joggled: collinear points still get a graph
        try:
            return Delaunay(points_N2, qhull_options=options).simplices
        except QhullError:
            continue
    return None


def edge_attributes(points_N2: np.ndarray, edges_2E: np.ndarray, size: int) -> np.ndarray:
    """Compute the pseudo-coordinates of the edges for SplineCNN: 0.5 + 0.5 (p_from - p_to) / size.

    Args:
        points_N2: float32, pixels, inside a square of side `size`.
        edges_2E: edges (from, to).
        size: side of the square, pixels.

    Returns:
        (E, 2) float32 in [0, 1].
    """
    offset_E2 = points_N2[edges_2E[0]] - points_N2[edges_2E[1]]
    attributes_E2: np.ndarray = np.float32(0.5) + offset_E2 * np.float32(0.5 / size)
    return attributes_E2
