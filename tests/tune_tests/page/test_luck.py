"""What luck alone would give: from measured noise, or from the rule of the report."""

from __future__ import annotations

import pytest

from tests.tune_tests.evidence.confirmations import confirmed, repeated
from tests.tune_tests.results.summaries import record, summary
from tune.page.luck import luck_of


def test_without_a_confirmation_the_rule_of_two_points_is_used_and_named():
    found = luck_of(summary(*(record(n, 0.5 + 0.01 * n) for n in range(16))), None)
    assert found is not None and "not measured" in found.source and "2 points" in found.source
    assert found.deviation == pytest.approx(2 / (1.96 * 2**0.5))
    assert found.points == pytest.approx(1.766 * found.deviation, rel=1e-3)  # of 16 normal values, from tables


def test_a_confirmation_measures_the_noise_within_each_configuration():
    default, other = repeated("000", [0.60, 0.62, 0.61]), repeated("001", [0.90, None, 0.90])
    found = luck_of(summary(record(0, 0.6), record(1, 0.9)), confirmed(default, other))
    assert found is not None and found.source.startswith("measured: 5 trainings")
    assert found.deviation == pytest.approx(100 * (2 * 0.01**2 / 3) ** 0.5)
    assert found.points == pytest.approx(found.deviation * 0.5642, rel=1e-3)


def test_one_trial_has_no_luck():
    assert luck_of(summary(record(0, 0.5), record(1, None, state="FAIL")), None) is None
