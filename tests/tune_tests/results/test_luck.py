"""What luck alone would show: from measured noise, or from the noise that is assumed."""

from __future__ import annotations

import numpy as np
import pytest

from tune.results.luck import ASSUMED, luck_of, rare_gain


def test_without_trainings_over_seeds_the_noise_is_assumed_and_said_to_be() -> None:
    found = luck_of(16)
    assert found is not None and found.source == "assumed; --confirm measures it" and found.deviation == ASSUMED
    assert found.points == pytest.approx(1.766 * ASSUMED, rel=1e-3)  # of 16 normal values, from tables
    assert found.to_dict()["limit"] == found.limit > found.points


def test_a_confirmation_measures_the_noise_within_each_configuration() -> None:
    found = luck_of(2, [[0.60, 0.62, 0.61], [0.90, 0.90], [0.5]])
    assert found is not None and found.source == "measured by --confirm, 5 trainings"
    assert found.deviation == pytest.approx(100 * (2 * 0.01**2 / 3) ** 0.5)
    assert found.points == pytest.approx(found.deviation * 0.5642, rel=1e-3)
    assert found.limit == pytest.approx(found.deviation * 1.6449 * 2**0.5, rel=1e-3)  # the difference of two


@pytest.mark.parametrize("count", [2, 16, 100])
def test_one_search_of_20_with_equal_trials_gains_more_than_the_limit(count: int) -> None:
    drawn = np.random.default_rng(0).normal(size=(20_000, count))
    assert (drawn.max(1) - drawn[:, 0] > rare_gain(count)).mean() == pytest.approx(0.05, abs=0.005)


def test_one_trial_has_no_luck() -> None:
    assert luck_of(1) is None and luck_of(0) is None
