"""Intervals over seeds and photographs: by hand, and their coverage where the truth is known."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import t

from nmt.bootstrap import MEAN, standard_errors
from nmt.pair_results import MODEL, PairResults
from tests.tune_tests.evidence.confirmations import repeated
from tune.evidence.photographs import (
    Spread,
    difference_over_both,
    half_interval,
    interval_over_both,
    mean_shown,
    smallest_found,
    spreads_from_dict,
)
from tune.results.power import detectable
from tune.results.statistics import mean_of

PHOTOGRAPHS = 12
PAIRS = np.array(list(itertools.permutations(range(PHOTOGRAPHS), 2)))


def test_the_two_variances_add_up_with_satterthwaites_degrees() -> None:
    reference, better = repeated("000", [0.50, 0.52, 0.51]), repeated("007", [0.55, 0.56, 0.60])
    seeds = better.above(reference)
    assert seeds is not None
    spread = Spread(photographs=41, accuracy=0.03, difference=0.05)
    own = np.var([0.05, 0.04, 0.09], ddof=1) / 3
    freedom = (own + 0.05**2) ** 2 / (own**2 / 2 + 0.05**4 / 40)
    half = t.ppf(0.975, freedom) * math.sqrt(own + 0.05**2)
    found = difference_over_both(better, reference, spread)
    assert found is not None and found.mean == pytest.approx(seeds.mean) and found.count == 3
    assert (found.low, found.high) == (pytest.approx(found.mean - half), pytest.approx(found.mean + half))
    mean = mean_shown(better, {"007": spread})
    assert mean is not None and mean.standard_error == pytest.approx(
        math.hypot(np.std([0.55, 0.56, 0.6], ddof=1) / 3**0.5, 0.03)
    )
    little = difference_over_both(better, reference, Spread(photographs=41, accuracy=0.0, difference=0.01))
    assert little is not None and little.low == pytest.approx(seeds.low)  # Satterthwaite alone would be narrower
    nearly = difference_over_both(better, reference, Spread(photographs=41, accuracy=0.0, difference=1e-9))
    assert nearly is not None and nearly.low == pytest.approx(seeds.low, rel=1e-6)


def test_intervals_over_both_cover_a_true_difference_where_those_over_seeds_miss_it() -> None:
    """Differences of known size: effects of seeds, of photographs, and of each pair in each training."""
    rng, truth, held, alone, worlds = np.random.default_rng(8), 0.05, 0, 0, 300
    pairs = PAIRS[rng.permutation(len(PAIRS))[:80]]
    empty = PairResults(("cup",), pairs, np.zeros(80, int), np.ones(80), {})
    for _ in range(worlds):
        of_photographs = rng.normal(0, 0.05, PHOTOGRAPHS)[pairs].sum(1)
        by_seed = truth + rng.normal(0, 0.01, (5, 1)) + of_photographs + rng.normal(0, 0.1, (5, 80))
        error = standard_errors(replace(empty, correct={MODEL: by_seed.mean(0)}))[MODEL][MEAN]
        one, reference = repeated("a", (0.5 + by_seed.mean(1)).tolist()), repeated("b", [0.5] * 5)
        both = difference_over_both(one, reference, Spread(photographs=PHOTOGRAPHS, accuracy=0.1, difference=error))
        seeds = one.above(reference)
        assert both is not None and seeds is not None
        held += both.low <= truth <= both.high
        alone += seeds.low <= truth <= seeds.high
    assert 0.92 <= held / worlds <= 0.98 and alone / worlds < 0.8


def test_fewer_than_two_seeds_have_no_interval() -> None:
    spread = Spread(photographs=9, accuracy=0.1, difference=0.1)
    assert difference_over_both(repeated("a", [0.5, None]), repeated("b", [0.4, 0.4]), spread) is None
    assert difference_over_both(repeated("a", [0.5, 0.6]), repeated("b", [0.4, 0.4]), None) is None


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6), st.floats(1e-4, 0.2), st.integers(3, 500))
def test_the_interval_of_a_mean_is_never_narrower_than_that_of_the_photographs(
    values: list[float], error: float, photographs: int
) -> None:
    mean = mean_of(values)
    assert mean is not None
    half = half_interval(mean, error, photographs)
    assert half >= 1.95996 * error * 0.999
    low, high = interval_over_both(
        repeated("a", values), Spread(photographs=photographs, accuracy=error, difference=None), split="val"
    )
    assert 0 <= low <= mean.mean + 1e-9 and mean.mean - 1e-9 <= high <= 1


def test_the_smallest_difference_that_is_found_pools_the_noise_of_the_variants() -> None:
    reference = repeated("000", [0.5, 0.5, 0.5])
    others = [repeated("a", [0.51, 0.53, 0.52]), repeated("b", [0.4, 0.44, 0.42]), repeated("c", [0.9, None, None])]
    pooled = math.sqrt((0.01**2 + 0.02**2) / 2 / 3)
    assert smallest_found(reference, others, {}) == pytest.approx(detectable(pooled, 2))
    wider = smallest_found(reference, others, {"a": Spread(photographs=50, accuracy=0.1, difference=0.1)})
    assert wider is not None and wider > 0.2
    little = smallest_found(reference, others, {"a": Spread(photographs=50, accuracy=0.1, difference=0.005)})
    assert little == pytest.approx(detectable(pooled, 2))  # never less than over seeds alone
    assert smallest_found(reference, others[2:], {}) is None


def test_spreads_return_from_plain_values() -> None:
    content = {"000": {"photographs": 3, "accuracy": 0.1, "difference": None}}
    assert spreads_from_dict(content) == {"000": Spread(photographs=3, accuracy=0.1, difference=None)}
    with pytest.raises(TypeError):
        spreads_from_dict({"000": {"photographs": 3}})
