"""The looks at results: which are one, and what each may cost."""

from __future__ import annotations

import itertools

import pytest

from tune.evidence.looks import FALSE_WINNERS, confidence_at, look_at, look_from_dict, number_of, with_look


def test_the_same_results_in_another_order_are_the_same_look() -> None:
    first, more_seeds, more_candidates = (
        look_at([1, 2, 3], "ab"),
        look_at([1, 2, 3, 4], "ab"),
        look_at([1, 2, 3], "abc"),
    )
    looks = with_look(with_look((), first), more_seeds)
    assert with_look(looks, look_at([3, 1, 2], "ba")) == looks == (first, more_seeds)
    assert [number_of(looks, look) for look in (first, more_seeds, more_candidates)] == [1, 2, 3]
    assert look_from_dict(first.to_dict()) == first


def test_any_number_of_looks_together_has_5_percent_of_false_winners() -> None:
    assert [confidence_at(number) for number in (1, 2, 3)] == pytest.approx([0.95, 0.975, 0.9875])
    false = list(itertools.accumulate((1 - confidence_at(number)) / 2 for number in range(1, 40)))
    assert false[0] == pytest.approx(0.025) and all(spent < FALSE_WINNERS for spent in false[:30])
