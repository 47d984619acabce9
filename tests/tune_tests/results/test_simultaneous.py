"""Intervals that hold together: by hand, where noise is hidden, and how often equal configurations win."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from tests.bench.false_winners import LOOKS, World, false_winners, power
from tune.results.simultaneous import simultaneous_differences

NULL = [World(), World(rounding=0.005, keypoints=200), World(noisy=3.0), World(noisy_default=3.0, shared=0.0)]
"""searches whose configurations are all equal"""


def test_the_intervals_of_one_and_of_three_configurations_by_hand() -> None:
    # Differences of 1, 2, 3 and 0, 2, 4 and 0, 20, 40 points: variances 1, 4 and 400, median 4.
    table = 0.5 + 0.01 * np.array([[0, 0, 0], [1, 2, 3], [0, 2, 4], [0, 20, 40]])
    mean, half = simultaneous_differences(table, confidence=0.95)
    quantile = scipy.stats.t.ppf(1 - 0.025 / 3, 3 * 3 * 2 / 5)
    assert mean == pytest.approx([0.02, 0.02, 0.2])
    assert half == pytest.approx(quantile * np.sqrt(np.array([4, 4, 400]) / 3) / 100)
    assert simultaneous_differences(table[:2], confidence=0.95)[1] == pytest.approx(0.01 * 4.302653 / 3**0.5)


def test_equal_differences_have_an_interval_of_some_width() -> None:
    moved = np.array([[0.60, 0.61, 0.62], [0.70, 0.71, 0.72]])  # variance 1 each: a tenth of 2 is left
    assert simultaneous_differences(moved, confidence=0.95)[1] == pytest.approx(0.01 * 4.302653 * (0.2 / 3) ** 0.5)
    still = np.array([[0.60] * 3, [0.64] * 3])  # 4 points of 100 keypoints are 4 coins: 0.04 * 0.96 / 100
    _, half = simultaneous_differences(still, confidence=0.95, keypoints=100)
    assert half == pytest.approx(4.302653 * (0.04 * 0.96 / 100 / 3) ** 0.5)


@given(st.lists(st.lists(st.floats(0, 1), min_size=4, max_size=4), min_size=2, max_size=5))
def test_an_interval_is_never_narrower_than_its_own_noise_or_at_more_confidence(table: list[list[float]]) -> None:
    values = np.array(table)
    mean, half = simultaneous_differences(values, confidence=0.95)
    assert mean == pytest.approx((values[1:] - values[0]).mean(-1)) and (half >= 0).all()
    assert (simultaneous_differences(values, confidence=0.975)[1] >= half).all()
    own = np.sqrt((values[1:] - values[0]).var(-1, ddof=1) / values.shape[1])
    assert (half >= 1.96 * own - 1e-12).all()


@pytest.mark.parametrize("world", NULL, ids=str)
@pytest.mark.parametrize("candidates", [1, 3, 10])
def test_equal_configurations_have_a_winner_in_5_of_100_confirmations_at_most(world: World, candidates: int) -> None:
    for seeds in LOOKS:
        found = false_winners(world, candidates, seeds, comparisons=1500)
        # The seed of the draws is fixed. Three standard errors of a share of 5 % are 1.7 %.
        assert found.ours <= 0.05, (seeds, found)
    assert found.before > 0.05, "looks at three, five and eight seeds, as they were judged before"


@pytest.mark.parametrize("noisy", [1.0, 30.0])
def test_a_gain_of_two_points_is_found_also_beside_one_that_fails_at_times(noisy: float) -> None:
    found = power(World(noisy=noisy), 3, (5,), comparisons=1500)
    assert 0.7 < found.ours < found.before
