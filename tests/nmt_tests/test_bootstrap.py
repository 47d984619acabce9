"""Intervals over photographs: by hand, against a plain loop, and their coverage where the truth is known."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest

from nmt.bootstrap import MEAN, intervals, photographs, standard_errors
from nmt.pair_results import PairResults
from tests.bench.photograph_intervals import coverage, draw_world


def complete(values: np.ndarray, first: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """All ordered pairs of photographs, and for each the mean of the values of its two."""
    pairs = np.array(list(itertools.permutations(range(len(values)), 2)))
    return pairs + first, values[pairs].mean(1)


def results(photographs: np.ndarray, correct: np.ndarray, category: np.ndarray | None = None) -> PairResults:
    category = np.zeros(len(correct), int) if category is None else category
    names = tuple(f"c{k}" for k in range(int(category.max()) + 1))
    return PairResults(names, photographs, category, np.ones(len(correct)), {"NMT": correct})


def test_photographs_that_alone_decide_give_the_standard_error_of_their_mean() -> None:
    values = np.random.default_rng(0).uniform(0, 1, 200)
    found = standard_errors(results(*complete(values)))["NMT"][MEAN]
    assert found == pytest.approx(values.std(ddof=1) / math.sqrt(200), rel=0.01)


def test_pairs_that_have_nothing_in_common_give_the_standard_error_of_their_mean() -> None:
    rng = np.random.default_rng(1)
    pairs, _ = complete(np.zeros(60))
    once = pairs[pairs[:, 0] < pairs[:, 1]]
    correct = rng.integers(0, 2, len(once)).astype(float)
    found = standard_errors(results(once, correct))["NMT"][MEAN]
    assert found == pytest.approx(0.5 / math.sqrt(len(once)), rel=0.15)
    both = results(np.concatenate([once, once[:, ::-1]]), np.concatenate([correct, correct]))
    assert standard_errors(both)["NMT"][MEAN] == pytest.approx(found)  # the other order of a pair tells nothing new


def test_categories_are_independent_unless_they_share_photographs() -> None:
    pairs, correct = complete(np.random.default_rng(2).uniform(0, 1, 30))
    category = np.repeat([0, 1], len(pairs))
    twice = np.concatenate([correct, correct])
    apart = standard_errors(results(np.concatenate([pairs, pairs + 30]), twice, category))["NMT"][MEAN]
    shared = standard_errors(results(np.concatenate([pairs, pairs]), twice, category))["NMT"][MEAN]
    one = standard_errors(results(pairs, correct))["NMT"][MEAN]
    assert apart == pytest.approx(one / math.sqrt(2)) and shared == pytest.approx(one)


def test_equal_methods_differ_by_nothing_and_a_constant_difference_has_no_spread() -> None:
    made = draw_world(np.random.default_rng(3), photographs=12, categories=2, pairs=60, shared=1.0, own=0.5)
    own = made.correct["NMT"]
    changed = {"equal": own - own, "half": own - (own - made.total_P / 2)}
    found = standard_errors(dataclasses.replace(made, correct=changed))
    assert {name: errors[MEAN] for name, errors in found.items()} == pytest.approx({"equal": 0, "half": 0}, abs=1e-12)


def test_the_interval_holds_the_accuracy_and_stays_in_the_unit_interval() -> None:
    made = draw_world(np.random.default_rng(4), photographs=10, categories=3, pairs=40, shared=1.0, own=0.5)
    perfect = dataclasses.replace(made, correct=made.correct | {"all": made.total_P, "none": 0 * made.total_P})
    found = intervals(perfect)
    assert found["all"][MEAN] == (1.0, 1.0) and found["none"][MEAN] == (0.0, 0.0)
    for column, (low, high) in found["NMT"].items():
        counts = perfect.counts("NMT")
        accuracy = (counts.accuracy_per_category(made.categories) | {MEAN: counts.accuracy()})[column]
        assert 0 <= low < accuracy < high <= 1
    assert found == intervals(perfect) != intervals(perfect, seed=1)


def test_a_category_of_two_photographs_has_no_interval_and_so_the_mean_has_none() -> None:
    pairs, correct = complete(np.random.default_rng(5).uniform(0, 1, 8))
    made = results(
        np.concatenate([pairs, [[8, 9], [9, 8]]]),
        np.append(correct, [1, 0]),
        np.append(0 * correct, [1, 1]).astype(int),
    )
    found = intervals(made)["NMT"]
    assert set(found) == {"c0"} == set(standard_errors(made)["NMT"])
    assert photographs(made) == {"c0": 8, "c1": 2, MEAN: 10}


def test_a_category_without_pairs_is_left_out() -> None:
    pairs, correct = complete(np.random.default_rng(6).uniform(0, 1, 8))
    one, other = results(pairs, correct), results(pairs, correct, np.ones(len(pairs), int))
    assert intervals(other)["NMT"] == {("c1" if k == "c0" else k): v for k, v in intervals(one)["NMT"].items()}


@pytest.mark.parametrize(("shared", "own"), [(0.0, 0.0), (0.0, 1.5), (0.5, 1.0), (1.2, 0.5)])
def test_nominal_95_per_cent_cover_between_92_and_97(shared: float, own: float) -> None:
    """Photographs' effects are known: none, effects of pairs alone, both, and mostly of photographs."""
    found = coverage(photographs=30, categories=3, pairs=200, shared=shared, own=own, worlds=400, draws=200, seed=7)
    assert 0.92 <= found <= 0.975
