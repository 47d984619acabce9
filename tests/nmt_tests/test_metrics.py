"""Accuracy per category against counting by hand and scikit-style averages in numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nmt.metrics import Counts, count_correct


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**31), st.integers(0, 12), st.integers(1, 7), st.integers(1, 4))
def test_counts_are_those_of_a_loop_over_keypoints(seed: int, pairs: int, width: int, categories: int) -> None:
    rng = np.random.default_rng(seed)
    match, predicted = rng.integers(-1, width, (2, pairs, width))
    category = rng.integers(0, categories, pairs)
    correct, total = np.zeros((2, categories))
    for p in range(pairs):
        for n in range(width):
            total[category[p]] += match[p, n] >= 0
            correct[category[p]] += match[p, n] >= 0 and match[p, n] == predicted[p, n]
    found = count_correct(*(torch.from_numpy(x) for x in (predicted, match, category)), categories)
    assert found.correct_A.tolist() == correct.tolist() and found.total_A.tolist() == total.tolist()
    seen = total > 0
    expected = float(np.mean(correct[seen] / total[seen])) if seen.any() else 0.0
    assert found.accuracy() == pytest.approx(expected) and 0 <= found.accuracy() <= 1
    names = [f"c{k}" for k in range(categories)]
    per_category = found.accuracy_per_category(names)
    assert per_category == {name: correct[k] / total[k] for k, name in enumerate(names) if total[k]}


def test_every_category_weighs_the_same_whatever_its_size() -> None:
    found = Counts(correct_A=torch.tensor([1.0, 900.0, 0.0]), total_A=torch.tensor([2.0, 1000.0, 0.0]))
    assert found.accuracy() == pytest.approx((0.5 + 0.9) / 2)
    assert found.accuracy_per_category(["a", "b", "empty"]) == {"a": 0.5, "b": 0.9}


def test_names_of_another_number_of_categories_are_an_error() -> None:
    with pytest.raises(ValueError, match="zip"):
        Counts(torch.zeros(3), torch.ones(3)).accuracy_per_category(["a", "b"])


def test_alone_the_sum_over_ranks_is_a_copy() -> None:
    counts = Counts(torch.ones(2), torch.ones(2))
    reduced = counts.reduced()
    reduced.correct_A.add_(5)
    assert counts.correct_A.tolist() == [1, 1]
