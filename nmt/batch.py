"""Batches of image pairs with their keypoints, padded to the longest; and the tensor conventions of the project.

A name ends with 0 for the source and 1 for the target, then with the letters of its shape: `points0_BN2`,
`points1_BM2`. Letters: B pairs, N/M padded keypoints of image 0/1, C channels, D model width, E edges, G width of the
global feature, H x W pixels.

Rows n >= `num_B[b]` are padding: zero, never attended, never matched, never counted. A match is an index into the
target's keypoints, -1 = none.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Side:
    """Source or target side of the pairs of a batch."""

    points_BN2: Tensor
    """float32, (x, y) in pixels of the square input"""
    num_B: Tensor
    """int64, number of real keypoints"""
    edge_index_2E: Tensor
    """int64, (from, to), flat indices into the B * N padded keypoints"""
    edge_attr_E2: Tensor
    """float32 in [0, 1]: 0.5 + 0.5 (p_from - p_to) / size"""
    image_B3HW: Tensor | None = None
    """uint8, images mode only"""
    nodes_BNC: Tensor | None = None
    """backbone features at the keypoints, features mode only"""
    global_BG: Tensor | None = None
    """global backbone feature, features mode only"""
    draw_B: Tensor | None = None
    """int64, random number of each image for the backbone's stochastic depth, training in images mode only"""

    @property
    def mask_BN(self) -> Tensor:
        """Return a bool mask, True where a keypoint is real."""
        return torch.arange(self.points_BN2.shape[1], device=self.num_B.device) < self.num_B[:, None]

    def to(self, device: torch.device) -> Side:
        """Copy to a device; a copy from page-locked memory runs in the background."""
        moved = {
            f.name: value.to(device, non_blocking=True)
            for f in dataclasses.fields(self)
            if (value := getattr(self, f.name)) is not None
        }
        return dataclasses.replace(self, **moved)

    def pin_memory(self) -> Side:
        """Copy to page-locked memory."""
        pinned = {f.name: t.pin_memory() for f in dataclasses.fields(self) if (t := getattr(self, f.name)) is not None}
        return dataclasses.replace(self, **pinned)


@dataclass(frozen=True)
class PairBatch:
    """Image pairs as the model and the losses read them."""

    source: Side
    target: Side
    match_BN: Tensor
    """int64, index of the true target keypoint of each source keypoint; -1 = none (padding included)"""
    category_B: Tensor
    """int64, index into the data set's categories"""

    @property
    def num_pairs(self) -> int:
        """Return B."""
        return self.category_B.shape[0]

    def to(self, device: torch.device) -> PairBatch:
        """Copy to a device."""
        return PairBatch(
            self.source.to(device),
            self.target.to(device),
            self.match_BN.to(device, non_blocking=True),
            self.category_B.to(device, non_blocking=True),
        )

    def pin_memory(self) -> PairBatch:
        """Copy to page-locked memory, from which a GPU fetches while it computes; the DataLoader calls this."""
        return PairBatch(
            self.source.pin_memory(),
            self.target.pin_memory(),
            self.match_BN.pin_memory(),
            self.category_B.pin_memory(),
        )
