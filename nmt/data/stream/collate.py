"""Collate pairs into padded batches: points, graphs, and images or stored features. Letters as in nmt/batch.py."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from nmt.batch import PairBatch, Side
from nmt.data.graph import edge_attributes, remembered_edges
from nmt.data.store.objects import ObjectStore
from nmt.data.stream.pair import Pair


class Features(Protocol):
    """Backbone features of objects, by their rows in the data set: a FeatureTable, or those of a few objects."""

    channels: int
    global_channels: int

    def nodes(self, row: int, view: int = 0) -> np.ndarray:
        """Return the features at the keypoints, (N, C) float16, in the order of `ObjectStore.keypoints`."""

    def global_feature(self, row: int, view: int = 0) -> np.ndarray:
        """Return the global feature, (G,) float32."""


@dataclass(frozen=True)
class ShownObject:
    """The keypoints and the stored view of an augmented object in a batch."""

    points_N2: np.ndarray
    """float32 pixels of all the object's keypoints, in stored order"""
    view: int = 0
    """number of the view whose stored features are used"""


def collate(
    store: ObjectStore,
    pairs: Sequence[Pair],
    *,
    features: Features | None = None,
    images: tuple[np.ndarray, np.ndarray] | None = None,
    draws_B2: np.ndarray | None = None,
    seen: Sequence[tuple[ShownObject | None, ShownObject | None]] | None = None,
    width: int = 0,
) -> PairBatch:
    """Collate pairs, with their stored features or their images, into one padded batch.

    Args:
        features: where to read features from, in features mode.
        images: uint8 (B, H, W, 3) of the source and the target side, in images mode.
        draws_B2: int64 random numbers for the backbone, source and target, in images mode.
        seen: how both sides of each pair appear; None if all appear as stored.
        width: keypoints to pad to, more than any pair has; the edges are then padded too. 0: each side's longest.
    """
    match_BN = np.full((len(pairs), width or max((len(pair.match_N) for pair in pairs), default=0)), -1, np.int64)
    for b, pair in enumerate(pairs):
        match_BN[b, : len(pair.match_N)] = pair.match_N
    sides = (
        [(pair.row0, pair.positions0) for pair in pairs],
        [(pair.row1, pair.positions1) for pair in pairs],
    )
    source, target = (
        _side(
            store,
            side,
            features=features,
            images_BHW3=images[s] if images else None,
            draw_B=draws_B2[:, s].copy() if draws_B2 is not None else None,
            seen=[both[s] for both in seen] if seen else [None] * len(pairs),
            width=width,
        )
        for s, side in enumerate(sides)
    )
    category_B = np.array([pair.category for pair in pairs], np.int64)
    return PairBatch(source, target, torch.from_numpy(match_BN), torch.from_numpy(category_B))


def _side(
    store: ObjectStore,
    objects: Sequence[tuple[int, np.ndarray]],
    *,
    features: Features | None,
    images_BHW3: np.ndarray | None,
    draw_B: np.ndarray | None,
    seen: Sequence[ShownObject | None],
    width: int,
) -> Side:
    """Collate one side of the pairs.

    Args:
        objects: (row, positions of its keypoints in order) of each pair.
    """
    num_B = np.array([len(order) for _, order in objects], np.int64)
    shape = (len(objects), width or int(num_B.max(initial=0)))
    points_BN2 = np.zeros((*shape, 2), np.float32)
    nodes_BNC = np.zeros((*shape, features.channels), np.float16) if features else None
    global_BG = np.empty((len(objects), features.global_channels), np.float32) if features else None
    edges = [np.empty((2, 0), np.int64)]
    for b, (row, order) in enumerate(objects):
        how, stored_N2 = seen[b], store.points(row)
        points_BN2[b, : len(order)] = (stored_N2 if how is None else how.points_N2)[order]
        edges.append(graph(store, row, order, stored_N2) + b * shape[1])
        if features is not None and nodes_BNC is not None and global_BG is not None:
            view = 0 if how is None else how.view
            nodes_BNC[b, : len(order)] = features.nodes(row, view)[order]
            global_BG[b] = features.global_feature(row, view)
    edges_2E = np.concatenate(edges, axis=1)
    if width:
        edges_2E = pad_edges(edges_2E, shape)
    attr_E2 = edge_attributes(points_BN2.reshape(-1, 2), edges_2E, store.info.image_size)
    return Side(
        torch.from_numpy(points_BN2),
        torch.from_numpy(num_B),
        torch.from_numpy(edges_2E),
        torch.from_numpy(attr_E2),
        # A permuted view: channels last in memory, which is what convolutions prefer, and no copy.
        image_B3HW=torch.from_numpy(images_BHW3).permute(0, 3, 1, 2) if images_BHW3 is not None else None,
        nodes_BNC=torch.from_numpy(nodes_BNC) if nodes_BNC is not None else None,
        global_BG=torch.from_numpy(global_BG) if global_BG is not None else None,
        draw_B=torch.from_numpy(draw_B) if draw_B is not None else None,
    )


def pad_edges(edges_2E: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Pad the edges of a batch to a number that depends on `shape` alone, or to a multiple of it.

    The added edges lead from the last keypoint to itself. It is padding in every pair, so no model looks there.
    A triangulation of n points has at most 6 n - 12 edges, both directions counted. Only the complete graphs of points
    on a line may need the multiple.

    Args:
        edges_2E: (2, E) of the whole batch.
        shape: (pairs, padded keypoints).
    """
    pairs, num = shape
    step = pairs * max(6 * num - 12, num * (num - 1) if num < 5 else 0, 2)
    missing = -edges_2E.shape[1] % step if edges_2E.shape[1] else step
    padding = np.full((2, missing), pairs * num - 1, edges_2E.dtype)
    return np.concatenate([edges_2E, padding], axis=1)


def graph(store: ObjectStore, row: int, order: np.ndarray, points_N2: np.ndarray) -> np.ndarray:
    """Build the graph over some of an object's keypoints, (2, E) int64, numbered in the order given.

    The triangulation uses stored order and stored points: it must not depend on the shuffling, and turning, mirroring
    or scaling changes no triangulation. For all keypoints the stored edges are used.

    Args:
        order: (n,) positions of the keypoints in the object.
        points_N2: `store.points(row)`.
    """
    by_position = order.argsort()
    complete = len(order) == len(points_N2)
    edges_2E = store.edges(row) if complete else remembered_edges(points_N2[order[by_position]].tobytes())
    numbered_2E: np.ndarray = by_position[edges_2E]
    return numbered_2E
