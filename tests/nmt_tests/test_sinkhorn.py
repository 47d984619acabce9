import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from nmt.sinkhorn import assign, decode, sinkhorn


def masks(num0, num1, width0, width1):
    return (torch.arange(width0) < num0)[None], (torch.arange(width1) < num1)[None]


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 9), st.integers(0, 4), st.floats(0.02, 1.0), st.integers(0, 2**31))
def test_plan_is_doubly_stochastic_and_padding_changes_nothing(num, padding, epsilon, seed):
    similarity = torch.rand((1, num, num), generator=torch.Generator().manual_seed(seed))
    plan = sinkhorn(similarity, *masks(num, num, num, num), epsilon=epsilon, iterations=300).exp()
    assert torch.allclose(plan.sum(1), torch.ones(1, num), atol=1e-5)
    wide = torch.nn.functional.pad(similarity, (0, padding, 0, padding), value=3.0)
    real = masks(num, num, num + padding, num + padding)
    padded = sinkhorn(wide, *real, epsilon=epsilon, iterations=300).exp()
    assert torch.allclose(padded[:, :num, :num], plan, atol=1e-6)
    assert float(padded.sum()) == pytest.approx(float(plan.sum()), abs=1e-4)


def test_iterations_can_be_continued():
    similarity = torch.rand(2, 5, 5)
    full = torch.ones(2, 5, dtype=torch.bool)
    whole = sinkhorn(similarity, full, full, epsilon=0.05, iterations=10)
    half = sinkhorn(similarity, full, full, epsilon=0.05, iterations=4)
    assert torch.allclose(sinkhorn(half, full, full, epsilon=1.0, iterations=6), whole, atol=1e-5)


def test_sinkhorn_resolves_two_sources_that_want_the_same_target():
    # Both prefer target 0; the second source wants it less, and target 1 is all that is left.
    similarity = torch.tensor([[[0.9, 0.0], [0.8, 0.7]]])
    full = torch.ones(1, 2, dtype=torch.bool)
    greedy = decode(similarity, full, full, epsilon=0.05, iterations=0, assignment="argmax")
    balanced = decode(similarity, full, full, epsilon=0.05, iterations=20, assignment="argmax")
    assert greedy.tolist() == [[0, 0]] and balanced.tolist() == [[0, 1]]


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 2**31))
def test_hungarian_agrees_with_scipy_and_leaves_the_rest_unmatched(num0, num1, seed):
    scores = torch.rand((1, 7, 7), generator=torch.Generator().manual_seed(seed))
    mask0, mask1 = masks(num0, num1, 7, 7)
    match = assign(scores, mask0, mask1, assignment="hungarian")[0].numpy()
    rows, columns = linear_sum_assignment(scores[0, :num0, :num1].numpy(), maximize=True)
    expected = np.full(7, -1)
    expected[rows] = columns
    assert match.tolist() == expected.tolist()


def test_masked_keypoint_is_never_matched():
    similarity = torch.zeros(1, 3, 3)
    similarity[:, :, 2] = 5.0  # padding column with the highest score
    mask0, mask1 = masks(2, 2, 3, 3)
    match = decode(similarity, mask0, mask1, epsilon=0.1, iterations=5, assignment="argmax")
    assert match[0, 2] == -1 and (match[0, :2] < 2).all()
