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


@given(data=st.data(), seed=st.integers(0, 2**32 - 1))
def test_one_side_alone_loses_keypoints(toy_store, data, seed):
    rng = np.random.default_rng(seed)
    row0, row1 = (int(row) for row in rng.choice(toy_store.rows("train")[0], 2, replace=False))
    common = np.intersect1d(toy_store.keypoints(row0), toy_store.keypoints(row1))
    pair = make_pair(toy_store, 0, row0, row1, common, rng)
    keep = np.array(data.draw(st.lists(st.booleans(), min_size=len(common), max_size=len(common))), bool)
    for side, other in ((0, 1), (1, 0)):
        part = pair.keep_side(side, keep)
        kept = (part.keypoints0, part.keypoints1)
        assert kept[side].tolist() == (pair.keypoints0, pair.keypoints1)[side][keep].tolist()
        assert kept[other].tolist() == (pair.keypoints0, pair.keypoints1)[other].tolist()
        assert (part.match_N >= 0).sum() == keep.sum()


class Objects:
    """Two objects with the ids given, of one category."""

    def __init__(self, *ids: list[int]) -> None:
        self._ids = [np.array(each, np.int16) for each in ids]

    def keypoints(self, row: int) -> np.ndarray:
        return self._ids[row]


def test_a_union_of_two_and_three_keypoints_matches_what_both_have():
    store = Objects([1, 4], [0, 4, 7])
    pair = make_pair(store, 0, 0, 1, np.array([4], np.int16), np.random.default_rng(0), union=True)
    assert sorted(pair.keypoints0) == [1, 4] and sorted(pair.keypoints1) == [0, 4, 7]
    partner = [pair.keypoints1[m] if m >= 0 else None for m in pair.match_N]
    assert dict(zip(pair.keypoints0.tolist(), partner, strict=True)) == {1: None, 4: 4}
    assert [store.keypoints(0)[p] for p in sorted(pair.positions0)] == [1, 4]
    assert (store.keypoints(1)[pair.positions1] == pair.keypoints1).all()


def test_what_both_have_and_the_data_set_does_not_list_is_on_neither_side_of_a_union():
    listed = np.array([0, 4], np.int16)
    pair = make_pair(Objects([0, 2, 4, 5], [0, 2, 4, 9]), 0, 0, 1, listed, np.random.default_rng(0), union=True)
    assert sorted(pair.keypoints0) == [0, 4, 5] and sorted(pair.keypoints1) == [0, 4, 9]
    assert (pair.match_N >= 0).sum() == 2


def assert_equal_pairs(one: Pair, other: Pair) -> None:
    for name in ("keypoints0", "keypoints1", "positions0", "positions1", "match_N"):
        mine, its = getattr(one, name), getattr(other, name)
        assert mine.dtype == its.dtype and mine.tolist() == its.tolist(), name


@given(ids=st.sets(st.integers(0, 20), min_size=2), seed=st.integers(0, 2**32 - 1))
def test_where_no_keypoint_is_missing_a_union_is_the_intersection(ids, seed):
    store, common = Objects(sorted(ids), sorted(ids)), np.array(sorted(ids), np.int16)
    one, other = (
        make_pair(store, 0, 0, 1, common, np.random.default_rng(seed), union=union) for union in (False, True)
    )
    assert_equal_pairs(one, other)
    mirror = np.arange(21, dtype=np.int16)
    mirror[common[:2]] = common[:2][::-1]
    assert_equal_pairs(swap_names(one, mirror), swap_names(other, mirror, union=True))


def test_mirrored_names_of_a_union_keep_what_has_no_partner():
    mirror = np.array([1, 0, 2, 4, 3], np.int16)  # left and right ear, nose, left and right eye
    pair = make_pair(
        Objects([0, 2, 3], [1, 2, 3]), 0, 0, 1, np.array([2, 3], np.int16), np.random.default_rng(3), union=True
    )
    swapped = swap_names(pair, mirror, union=True)
    partner = [int(swapped.keypoints1[m]) if m >= 0 else None for m in swapped.match_N]
    assert dict(zip(swapped.keypoints0.tolist(), partner, strict=True)) == {0: 1, 2: 2, 3: None}
    assert sorted(swapped.keypoints1) == [1, 2, 3]
