"""A pair of objects and the keypoints to match in it. Letters as in nmt/batch.py."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from nmt.data.store.objects import MIN_KEYPOINTS, ObjectStore


@dataclass(frozen=True)
class Pair:
    """Two objects and the keypoints shown of each, either side in a random order of its own.

    A keypoint has an id, its index into the category's keypoint names, and in each object a position, its index
    into the keypoints that the data set stores of the object. Positions are found once, when the pair is made. A
    published pair shows the common keypoints of two objects of one category, so every keypoint has a match. Others
    (`data.pairs = "union"`, nmt.data.stream.outliers) show keypoints without one, on either side.
    """

    category: int
    """of the source object"""
    row0: int
    """row of the source object in the data set"""
    row1: int
    """row of the target object"""
    keypoints0: np.ndarray
    """(N,) int16 ids in source order"""
    keypoints1: np.ndarray
    """(M,) int16 ids in target order; of the same keypoints in a published pair"""
    positions0: np.ndarray
    """(N,) int64 positions of `keypoints0` in the source object"""
    positions1: np.ndarray
    """(M,) int64 positions of `keypoints1` in the target object"""
    match_N: np.ndarray
    """(N,) int64, for each source keypoint the index of its match in target order; -1 = none"""

    def keep(self, keep_N: np.ndarray) -> Pair:
        """Drop the source keypoints where `keep_N` (N,) is False, and their matches."""
        if keep_N.all():
            return self
        keep1_M = np.ones(len(self.keypoints1), bool)
        keep1_M[self.match_N[~keep_N & (self.match_N >= 0)]] = False
        return self.keep_sides(keep_N, keep1_M)

    def keep_side(self, side: int, keep_V: np.ndarray) -> Pair:
        """Drop the keypoints of side 0 or 1 where `keep_V` is False; the other side keeps all of its own."""
        if keep_V.all():
            return self
        keep = [np.ones(len(self.keypoints0), bool), np.ones(len(self.keypoints1), bool)]
        keep[side] = keep_V
        return self.keep_sides(*keep)

    def keep_sides(self, keep0_N: np.ndarray, keep1_M: np.ndarray) -> Pair:
        """Drop keypoints of either side by itself: where one side's is dropped, the other's has no match any more.

        Args:
            keep0_N, keep1_M: bool, False where a source and a target keypoint is dropped.
        """
        # One entry more, for -1: a side may have lost all its keypoints.
        new_index = np.append(np.where(keep1_M, keep1_M.cumsum() - 1, -1), -1)
        return dataclasses.replace(
            self,
            keypoints0=self.keypoints0[keep0_N],
            keypoints1=self.keypoints1[keep1_M],
            positions0=self.positions0[keep0_N],
            positions1=self.positions1[keep1_M],
            match_N=new_index[self.match_N[keep0_N]],
        )


def make_pair(
    store: ObjectStore,
    category: int,
    row0: int,
    row1: int,
    common_N: np.ndarray,
    rng: np.random.Generator,
    *,
    union: bool = False,
) -> Pair:
    """Make a pair of two rows of the data set, its keypoints shuffled on both sides.

    Args:
        common_N: (N,) ids to match, which both objects have.
        union: show all keypoints of either object instead of the common ones alone. What both have and `common_N`
            leaves out is shown on neither side: the data set does not say whether it matches.
    """
    shown0 = shown1 = common_N
    if union:
        ids0, ids1 = store.keypoints(row0), store.keypoints(row1)
        shown0, shown1 = (
            own[np.isin(own, common_N) | ~np.isin(own, other)] for own, other in ((ids0, ids1), (ids1, ids0))
        )
    keypoints0, keypoints1 = rng.permutation(shown0), rng.permutation(shown1)
    return Pair(
        category,
        row0,
        row1,
        keypoints0,
        keypoints1,
        store.keypoints(row0).searchsorted(keypoints0),
        store.keypoints(row1).searchsorted(keypoints1),
        _matches(keypoints0, keypoints1),
    )


def swap_names(pair: Pair, mirror: np.ndarray, *, union: bool = False) -> Pair | None:
    """Match the pair anew when one of its images is mirrored: a left wing then matches a right one.

    Args:
        pair: two objects of one category.
        mirror: (K,) keypoint id -> its id in a mirrored image.
        union: keep the keypoints that have no match; without it, the pair is a published one and they are dropped.

    Returns:
        The pair with its new matches; None for fewer than two.
    """
    match_N = _matches(mirror[pair.keypoints0], pair.keypoints1)
    keep0_N = match_N >= 0
    if keep0_N.sum() < MIN_KEYPOINTS:
        return None
    matched = dataclasses.replace(pair, match_N=match_N)
    if union:
        return matched
    keep1_M = np.zeros(len(pair.keypoints1), bool)
    keep1_M[match_N[keep0_N]] = True
    return matched.keep_sides(keep0_N, keep1_M)


def _matches(wanted_N: np.ndarray, keypoints_M: np.ndarray) -> np.ndarray:
    """(N,) int64: where in `keypoints_M` each id of `wanted_N` is; -1 = nowhere."""
    order_M = keypoints_M.argsort()
    place_N = keypoints_M.searchsorted(wanted_N, sorter=order_M)
    # One entry more: an id above all others has its place behind the last.
    ids, found = np.append(keypoints_M[order_M], -1), np.append(order_M, -1)
    match_N: np.ndarray = np.where(ids[place_N] == wanted_N, found[place_N], -1)
    return match_N
