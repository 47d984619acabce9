"""The mean number of keypoints of a training pair against sums over all pairs."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from nmt.data.store.given_pairs import DIFFICULTIES, NOT_GIVEN, PAIRS_FILE, GivenPair, PairTable, write_pairs
from nmt.data.store.writer import RawObject
from nmt.data.stream.mean_keypoints import SAMPLE, mean_keypoints
from nmt.data.stream.sampler import GivenPairSampler, PairSampler


def all_pairs(sampler: PairSampler) -> list[list[int]]:
    """Keypoints of every pair that can be drawn, by category."""
    return [
        [
            len(common)
            for row0, row1 in itertools.product(sampler.rows[category], repeat=2)
            if (common := sampler.common(row0, row1)) is not None
        ]
        for category in sampler.categories
    ]


def assert_is_mean(found: float, counts: list[list[int]]) -> None:
    """Compare with the mean of the categories' means, within five standard errors."""
    means, squares = (np.mean([np.mean(np.power(c, power)) for c in counts]) for power in (1, 2))
    error = 5 * np.sqrt((squares - means**2) / SAMPLE)
    assert 0 < error < 0.2
    assert abs(found - means) < error


@pytest.mark.parametrize("split", ["train", "val"])
def test_drawn_pairs(toy_store, split):
    sampler = PairSampler(toy_store, split)
    found = mean_keypoints(sampler)
    assert_is_mean(found, all_pairs(sampler))
    assert found == mean_keypoints(PairSampler(toy_store, split))


def test_given_pairs_count_as_they_are_drawn_a_category_then_a_pair(make_store, toy_objects):
    objects = toy_objects()
    rows = {each.id: row for row, each in enumerate(objects)}
    chairs, planes = ([o for o in objects if o.category == c and o.split == "train"] for c in ("chair", "plane"))
    # many pairs of two keypoints, few of more
    pairs = [given(one, other, 2) for one, other in itertools.permutations(chairs, 2)]
    pairs += [given(planes[0], other, 3 + k % 4) for k, other in enumerate(planes[1:])]
    pairs += [given(o, o, 1) for o in objects if o.split == "val"]
    store = make_store(objects)
    write_pairs(store.directory / PAIRS_FILE, pairs, rows, store.info)
    sampler = GivenPairSampler(store, PairTable(store), "train")
    assert_is_mean(mean_keypoints(sampler), [[2] * 20 * 19, [3 + k % 4 for k in range(19)]])


def given(one: RawObject, other: RawObject, num: int) -> GivenPair:
    """Pair two objects by their first `num` common keypoints."""
    common = sorted(one.points.keys() & other.points.keys())[:num]
    return GivenPair(one.split, one.id, other.id, tuple(common), (NOT_GIVEN,) * len(DIFFICULTIES))
