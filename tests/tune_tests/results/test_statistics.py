from __future__ import annotations

import statistics
import warnings

import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from tune.results.statistics import (
    expected_maximum,
    mean_of,
    paired_difference,
    paired_differences,
    pooled_deviation,
)

accuracies = st.floats(0, 1, allow_subnormal=False)


@given(st.lists(st.tuples(accuracies, accuracies), min_size=2, max_size=10))
def test_interval_is_that_of_the_paired_t_test_but_for_hidden_noise(pairs: list[tuple[float, float]]) -> None:
    ours, reference = [a for a, _ in pairs], [b for _, b in pairs]
    found = paired_difference(ours, reference)
    assert found is not None and found.count == len(pairs) and found.confidence == 0.95
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scipy warns of nearly equal differences
        expected = scipy.stats.ttest_rel(ours, reference).confidence_interval(0.95)
    assert found.low <= expected.low + 1e-9 and found.high >= expected.high - 1e-9
    own = statistics.variance(a - b for a, b in pairs)
    if own > 0.1 * (statistics.variance(ours) + statistics.variance(reference)):
        assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-9)


@given(st.lists(accuracies, min_size=2, max_size=10))
def test_mean_has_its_standard_error(values: list[float]) -> None:
    found = mean_of(values)
    assert found is not None
    assert found.mean == pytest.approx(sum(values) / len(values))
    assert found.standard_error == pytest.approx(scipy.stats.sem(values), abs=1e-12)


def test_interval_of_a_mean_of_three_by_hand() -> None:
    found = mean_of([1, 2, 3])  # the same three values as the differences below, so the same interval
    assert found is not None and found.interval == pytest.approx(4.302653 / 3**0.5)


def test_several_differences_hold_together() -> None:
    one, other = paired_differences([[0.5, 0.6, 0.8], [0.4, 0.5, 0.7]], [0.5, 0.55, 0.6], confidence=0.9)
    alone = paired_difference([0.5, 0.6, 0.8], [0.5, 0.55, 0.6], confidence=0.95)
    assert alone is not None and (one.low, one.high) == pytest.approx((alone.low, alone.high))
    assert one.mean - other.mean == pytest.approx(0.1) and one.confidence == 0.9 and other.count == 3
    assert paired_differences([[0.5]], [0.4]) == [] == paired_differences([], [0.4, 0.5])


def test_difference_of_three_pairs_by_hand() -> None:
    # Differences 1, 2, 3: mean 2, standard error 1/sqrt(3); t of two degrees of freedom at 97.5 % is 4.302653.
    found = paired_difference([2, 4, 6], [1, 2, 3])
    assert found is not None
    assert (found.mean, found.low, found.high) == pytest.approx((2, 2 - 4.302653 / 3**0.5, 2 + 4.302653 / 3**0.5))
    assert not found.separated


@given(st.lists(st.tuples(accuracies, accuracies), min_size=2, max_size=6))
def test_exchanging_the_two_turns_the_interval_around(pairs: list[tuple[float, float]]) -> None:
    one, other = [a for a, _ in pairs], [b for _, b in pairs]
    there, back = paired_difference(one, other), paired_difference(other, one)
    assert there is not None and back is not None and there.separated == back.separated
    assert (there.low, there.high) == pytest.approx((-back.high, -back.low))


def test_one_training_has_a_mean_but_no_error_and_no_interval() -> None:
    found = mean_of([0.5])
    assert found is not None and found.mean == 0.5 and found.standard_error is None and found.interval is None
    assert mean_of([]) is None and paired_difference([0.5], [0.4]) is None


@pytest.mark.parametrize(("count", "expected"), [(1, 0.0), (2, 0.56419), (5, 1.16296), (16, 1.76599), (100, 2.50759)])
def test_expected_maximum_is_the_tabulated_order_statistic(count: int, expected: float) -> None:
    assert expected_maximum(count) == pytest.approx(expected, abs=2e-5)


def test_deviation_within_groups_leaves_out_what_lies_between_them() -> None:
    assert pooled_deviation([[1.0, 3.0], [101.0, 103.0], [5.0]]) == pytest.approx(2**0.5)
    assert pooled_deviation([[1.0], []]) is None
