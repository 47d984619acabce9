import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from nmt.config import DecodeConfig
from nmt.decoding import Similarities, sweep
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


def test_sweep_reads_every_setting_of_a_grid_as_decoding_it_alone_does() -> None:
    generator = torch.Generator().manual_seed(0)
    num0_P, num1_P = torch.tensor([5, 3, 4, 6]), torch.tensor([6, 4, 4, 6])
    stored = Similarities(
        similarity_PNM=torch.rand(4, 6, 6, generator=generator) * 2 - 1,
        mask0_PN=torch.arange(6) < num0_P[:, None],
        mask1_PM=torch.arange(6) < num1_P[:, None],
        match_PN=torch.where(torch.arange(6) < num0_P[:, None], torch.arange(6) % num1_P[:, None], -1),
        category_P=torch.tensor([0, 0, 1, 1]),
    )
    both = ("argmax", "hungarian")
    grid = [
        DecodeConfig(sinkhorn_iterations=i, epsilon=e, assignment=a)
        for a in both
        for i in (27, 0, 3)
        for e in (0.1, 0.02)
    ]
    swept = sweep(stored, grid, num_categories=2)
    assert list(swept) == grid and len({tuple(c.correct_A.tolist()) for c in swept.values()}) > 1
    both_masks = (stored.mask0_PN, stored.mask1_PM)
    for setting, counts in swept.items():
        alone_PN = decode(
            stored.similarity_PNM, *both_masks, epsilon=setting.epsilon, iterations=setting.sinkhorn_iterations,
            assignment=setting.assignment,
        )  # fmt: skip
        right_PN = (alone_PN == stored.match_PN) & stored.mask0_PN
        assert counts.correct_A.tolist() == [float(right_PN[:2].sum()), float(right_PN[2:].sum())]
    plain = DecodeConfig(sinkhorn_iterations=0, epsilon=0.1, assignment="hungarian")
    for pair in range(4):
        sim_NM = stored.similarity_PNM[pair, : num0_P[pair], : num1_P[pair]]
        _, columns = linear_sum_assignment(sim_NM.numpy(), maximize=True)
        alone = Similarities(*(getattr(stored, f.name)[pair : pair + 1] for f in dataclasses.fields(stored)))
        right = sweep(alone, [plain], num_categories=2)[plain].correct_A.sum()
        assert right == (torch.from_numpy(columns) == stored.match_PN[pair, : num0_P[pair]]).sum()
