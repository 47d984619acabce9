"""The difference that can be shown, against a simulation and the formula for many seeds."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from tune.results.power import POWER, detectable


@pytest.mark.parametrize("seeds", [2, 3, 5, 20])
def test_a_difference_of_that_size_is_found_as_often_as_promised(seeds: int) -> None:
    wanted = detectable(1 / np.sqrt(seeds), seeds - 1)
    differences = np.random.default_rng(0).normal(wanted, 1.0, (4000, seeds))
    assert (ttest_1samp(differences, 0, axis=1).pvalue < 0.05).mean() == pytest.approx(POWER, abs=0.02)


def test_with_many_seeds_it_is_the_normal_formula_and_it_grows_with_the_noise() -> None:
    assert detectable(1.0, 1e6) == pytest.approx(1.95996 + 0.84162, rel=1e-3)
    assert detectable(3.0, 4) == pytest.approx(3 * detectable(1.0, 4)) and detectable(0.0, 4) == 0
