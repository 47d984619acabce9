"""Names of trials."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tune.results.layout import trial_id


@given(st.lists(st.integers(0, 999), min_size=2, unique=True))
def test_names_of_trials_sort_as_their_numbers(numbers: list[int]) -> None:
    assert sorted(map(trial_id, numbers)) == [trial_id(n) for n in sorted(numbers)]
    assert [int(trial_id(n)) for n in numbers] == numbers


def test_more_than_a_thousand_trials_have_names_too() -> None:
    assert [trial_id(n) for n in (7, 1234)] == ["007", "1234"]
