"""Draws that depend on seed, purpose and counter alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmt.data.augment.seeding import DROP_PATH, EVAL, KEYPOINTS, TRAIN, VIEWS, generator

seeds = st.integers(0, 2**63 - 1)
purposes = st.sampled_from([TRAIN, EVAL, VIEWS, DROP_PATH, KEYPOINTS])
counters = st.lists(st.integers(0, 2**63 - 1), max_size=2)


def first_draws(seed: int, purpose: int, *counter: int) -> list[int]:
    return generator(seed, purpose, *counter).integers(2**63, size=4).tolist()


@given(one=st.tuples(seeds, purposes, counters), other=st.tuples(seeds, purposes, counters))
def test_draws_are_equal_exactly_where_seed_purpose_and_counter_are(
    one: tuple[int, int, list[int]], other: tuple[int, int, list[int]]
) -> None:
    draws = [first_draws(seed, purpose, *counter) for seed, purpose, counter in (one, other)]
    assert draws[0] == first_draws(one[0], one[1], *one[2])
    padded = [(seed, purpose, *counter, *[0] * (2 - len(counter))) for seed, purpose, counter in (one, other)]
    assert (draws[0] == draws[1]) == (padded[0] == padded[1])


def test_a_draw_of_any_length_does_not_reach_into_the_next_counter() -> None:
    # The counter of Philox has four words; a draw moves the lowest, and ours are the upper two.
    long = generator(0, TRAIN, 0, 5).integers(2**63, size=100_000)
    assert not np.isin(generator(0, TRAIN, 0, 6).integers(2**63, size=100), long).any()


def test_three_numbers_are_too_many() -> None:
    with pytest.raises(ValueError, match="counter"):
        generator(0, TRAIN, 1, 2, 3)
