"""A pair keeps its ids, positions and matches together, whatever is dropped from it."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from nmt.data.stream.pair import Pair, make_pair, swap_names


@given(data=st.data(), seed=st.integers(0, 2**32 - 1))
def test_positions_and_matches_stay_with_their_ids_when_keypoints_are_dropped(toy_store, data, seed):
    rng = np.random.default_rng(seed)
    row0, row1 = (int(row) for row in rng.choice(toy_store.rows("train")[0], 2, replace=False))
    common = np.intersect1d(toy_store.keypoints(row0), toy_store.keypoints(row1))
    pair = make_pair(toy_store, 0, row0, row1, common, rng)
    keep = np.array(data.draw(st.lists(st.booleans(), min_size=len(common), max_size=len(common))), bool)
    for part in (pair, pair.keep(keep)):
        assert np.array_equal(toy_store.keypoints(row0)[part.positions0], part.keypoints0)
        assert np.array_equal(toy_store.keypoints(row1)[part.positions1], part.keypoints1)
        assert np.array_equal(part.keypoints1[part.match_N], part.keypoints0)
    assert np.array_equal(pair.keep(keep).keypoints0, pair.keypoints0[keep])


@given(data=st.data(), seed=st.integers(0, 2**32 - 1))
def test_keypoints_dropped_from_one_side_leave_the_other_without_a_match(toy_store, data, seed):
    rng = np.random.default_rng(seed)
    row0, row1 = (int(row) for row in rng.choice(toy_store.rows("train")[0], 2, replace=False))
    common = np.intersect1d(toy_store.keypoints(row0), toy_store.keypoints(row1))
    pair = make_pair(toy_store, 0, row0, row1, common, rng)
    keep0, keep1, again = (
        np.array(data.draw(st.lists(st.booleans(), min_size=len(common), max_size=len(common))), bool) for _ in range(3)
    )
    part = pair.keep_sides(keep0, keep1)
    assert part.keypoints0.tolist() == pair.keypoints0[keep0].tolist()
    assert part.keypoints1.tolist() == pair.keypoints1[keep1].tolist()
    targets = part.keypoints1.tolist()
    assert part.match_N.tolist() == [targets.index(k) if k in targets else -1 for k in part.keypoints0.tolist()]
    # Dropping sources later takes their matches along, and leaves the targets that had none.
    left, gone = part.keep(again[keep0]), set(part.keypoints0[~again[keep0]].tolist())
    targets = left.keypoints1.tolist()
    assert targets == [k for k in part.keypoints1.tolist() if k not in gone]
    assert left.match_N.tolist() == [targets.index(k) if k in targets else -1 for k in left.keypoints0.tolist()]


@given(seed=st.integers(0, 2**32 - 1))
def test_swapped_names_match_the_mirrored_id_at_its_own_position(toy_store, seed):
    rng = np.random.default_rng(seed)
    mirror = np.arange(10, dtype=np.int16)
    mirror[[0, 1, 4, 7]] = [1, 0, 7, 4]
    row0, row1 = (int(row) for row in rng.choice(toy_store.rows("train")[0], 2, replace=False))
    common = np.intersect1d(toy_store.keypoints(row0), toy_store.keypoints(row1))
    swapped = swap_names(make_pair(toy_store, 0, row0, row1, common, rng), mirror)
    if swapped is None:
        assert np.isin(mirror[common], common).sum() < 2
        return
    assert np.array_equal(swapped.keypoints1[swapped.match_N], mirror[swapped.keypoints0])
    assert np.array_equal(toy_store.keypoints(row0)[swapped.positions0], swapped.keypoints0)
    assert np.array_equal(toy_store.keypoints(row1)[swapped.positions1], swapped.keypoints1)


def pair_of(keypoints0: np.ndarray, keypoints1: np.ndarray) -> Pair:
    """A pair of two objects that have all of five keypoints, so that positions are ids."""
    none = np.empty(0, np.int64)
    return Pair(0, 0, 1, keypoints0, keypoints1, keypoints0.astype(int), keypoints1.astype(int), none)


def test_one_mirrored_image_swaps_the_names_the_category_swaps():
    mirror = np.array([1, 0, 2, 4, 3], np.int16)  # left and right ear, nose, left and right eye
    pair = pair_of(np.array([2, 0, 1], np.int16), np.array([1, 2, 0], np.int16))
    swapped = swap_names(pair, mirror)
    assert [(int(k), int(swapped.keypoints1[m])) for k, m in zip(swapped.keypoints0, swapped.match_N, strict=True)] == [
        (2, 2),
        (0, 1),
        (1, 0),
    ]


def test_a_name_whose_mirror_image_is_missing_is_dropped_and_too_few_are_not_mirrored():
    mirror = np.array([1, 0, 2, 4, 3], np.int16)
    pair = pair_of(np.array([2, 3, 0, 1], np.int16), np.array([3, 1, 2, 0], np.int16))
    swapped = swap_names(pair, mirror)
    assert sorted(swapped.keypoints0) == sorted(swapped.keypoints1) == [0, 1, 2]
    lonely = pair_of(np.array([3, 2, 0], np.int16), np.array([3, 0, 2], np.int16))
    assert swap_names(lonely, mirror) is None
