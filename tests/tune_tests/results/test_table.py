"""Numbers as text."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tune.results.statistics import mean_of, paired_difference
from tune.results.table import percent, points, with_interval


@given(st.lists(st.floats(0, 1), min_size=1, max_size=5))
def test_a_mean_is_shown_in_percent_with_its_error(values: list[float]) -> None:
    shown = percent(mean_of(values))
    match = re.fullmatch(r"(\d+\.\d)(?: ± (\d+\.\d))? %", shown)
    assert match is not None and (match[2] is not None) == (len(values) > 1)
    assert float(match[1]) == pytest.approx(100 * sum(values) / len(values), abs=0.05 + 1e-9)


def test_a_difference_is_shown_in_points_with_signs() -> None:
    # differences of 1, 2 and 3 points: 2 ± 4.302653 / sqrt(3), as the test of paired_difference computes by hand
    assert points(paired_difference([0.12, 0.14, 0.16], [0.11, 0.12, 0.13])) == "+2.0 [-0.5, +4.5]"
    assert points(paired_difference([0.11, 0.12, 0.13], [0.12, 0.14, 0.16])) == "-2.0 [-4.5, +0.5]"


def test_what_is_not_known_is_a_dash() -> None:
    assert percent(mean_of([])) == points(paired_difference([0.5], [0.4])) == "-"


def test_a_mean_is_shown_with_its_interval() -> None:
    assert with_interval(mean_of([0.1, 0.2, 0.3])) == "20.0 ± 24.8"  # 4.302653 * 10 / 3 ** 0.5
    assert with_interval(mean_of([0.123])) == "12.3" and with_interval(None) == "-"
