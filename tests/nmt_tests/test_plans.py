"""Both forms of a Sinkhorn plan, against the logarithm in float64."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from nmt.plans import WIDEST, LogPlan, ScaledPlan, fast_plan
from nmt.sinkhorn import decode, sinkhorn

NO_TIE = 1e-9
"""difference of two log-weights in float64 that rounding cannot turn around"""


def exact_log_plan(similarity_NM: Tensor, *, epsilon: float, iterations: int) -> Tensor:
    """The logarithm in float64 of one pair without padding."""
    log_NM = similarity_NM.double() / epsilon
    for _ in range(iterations):
        log_NM = log_NM - log_NM.logsumexp(1, keepdim=True)
        log_NM = log_NM - log_NM.logsumexp(0, keepdim=True)
    return log_NM


def made(seed: int, sizes: list[tuple[int, int]], *, spread: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    """Similarities of pairs within +-spread, with noise at their padding, and both masks."""
    generator = torch.Generator().manual_seed(seed)
    num0_P, num1_P = (torch.tensor(side) for side in zip(*sizes, strict=True))
    width0, width1 = int(num0_P.max()) + seed % 2, int(num1_P.max()) + seed % 3
    similarity = spread * (2 * torch.rand(len(sizes), width0, width1, generator=generator) - 1)
    return similarity, torch.arange(width0) < num0_P[:, None], torch.arange(width1) < num1_P[:, None]


SIZES = st.lists(st.tuples(st.integers(2, 8), st.integers(2, 8)), min_size=1, max_size=4)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1000), SIZES, st.sampled_from([0.007, 0.02, 0.1, 1.0]), st.lists(st.integers(0, 40), min_size=1))
def test_a_scaled_plan_decides_as_the_logarithm_in_float64(seed, sizes, epsilon, steps):
    similarity, *masks = made(seed, sizes)
    plan = fast_plan(similarity, *masks, epsilon=epsilon)
    assert isinstance(plan, ScaledPlan)
    for step in steps:
        plan.iterate(step)
    best, one_to_one = plan.assign("argmax"), plan.assign("hungarian")
    for pair, (num0, num1) in enumerate(sizes):
        log_NM = exact_log_plan(similarity[pair, :num0, :num1], epsilon=epsilon, iterations=sum(steps))
        chosen = log_NM.gather(1, best[pair, :num0, None])[:, 0]
        assert (log_NM.amax(1) - chosen).max() < NO_TIE
        rows, columns = linear_sum_assignment(log_NM.numpy(), maximize=True)
        taken = one_to_one[pair, :num0]
        assert (taken >= 0).sum() == len(rows) == len(set(taken[taken >= 0].tolist()))
        total = log_NM.gather(1, taken.clamp_min(0)[:, None])[taken >= 0].sum()
        assert total == pytest.approx(float(log_NM[rows, columns].sum()), abs=1e-6)
        assert (best[pair, num0:] == -1).all() and (one_to_one[pair, num0:] == -1).all()


@pytest.mark.parametrize("iterations", [1, 3, 200])
def test_the_widest_kernel_that_is_scaled_neither_under_nor_overflows(iterations):
    # All source keypoints want the first target, and the other columns are as small as can be.
    similarity = torch.full((1, 6, 6), -1.0) + 0.1 * torch.rand(1, 6, 6, generator=torch.Generator().manual_seed(0))
    similarity[:, :, 0] = 1.0
    similarity[:, 2, 1] = -1.0
    masks = torch.ones(2, 1, 6, dtype=torch.bool)
    epsilon = 2 / WIDEST
    plan = fast_plan(similarity, *masks, epsilon=epsilon)
    assert isinstance(plan, ScaledPlan)
    plan.iterate(iterations)
    log_NM = exact_log_plan(similarity[0], epsilon=epsilon, iterations=iterations)
    chosen = log_NM.gather(1, plan.assign("argmax")[0, :, None])[:, 0]
    assert (log_NM.amax(1) - chosen).max() < NO_TIE


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), SIZES, st.sampled_from([1e-4, 0.002, 0.006]), st.integers(0, 20))
def test_weights_that_would_underflow_are_kept_as_logarithms(seed, sizes, epsilon, iterations):
    similarity, *masks = made(seed, sizes)
    similarity[0, 0, :2] = torch.tensor([1.0, -1.0])
    plan = fast_plan(similarity, *masks, epsilon=epsilon)
    assert isinstance(plan, LogPlan)
    plan.iterate(iterations)
    for assignment in ("argmax", "hungarian"):
        alone = decode(similarity, *masks, epsilon=epsilon, iterations=iterations, assignment=assignment)
        assert torch.equal(plan.assign(assignment), alone)


def test_padding_however_large_makes_no_kernel_underflow():
    similarity, *masks = made(4, [(3, 4), (5, 5)])
    similarity[0, 3:] = similarity[0, :, 4:] = -1e6
    assert isinstance(fast_plan(similarity, *masks, epsilon=0.05), ScaledPlan)


def test_the_forms_differ_at_near_ties_alone():
    """A fifth of the pairs have two target keypoints that float32 hardly tells apart, as symmetric objects have.

    Seen: 109 of 216,000 matches differ; without such keypoints none does.
    """
    generator = torch.Generator().manual_seed(0)
    known = F.normalize(torch.randn(3000, 12, 16, generator=generator), dim=-1)
    other = F.normalize(known + 0.4 * torch.randn(3000, 12, 16, generator=generator), dim=-1)
    other[::5, 1] = F.normalize(other[::5, 0] + 1e-6 * torch.randn(600, 16, generator=generator), dim=-1)
    similarity, masks = known @ other.transpose(1, 2), torch.ones(2, 3000, 12, dtype=torch.bool)
    differ = total = 0
    for epsilon in (0.02, 0.1):
        plans = [kind(similarity, *masks, epsilon=epsilon) for kind in (LogPlan, ScaledPlan)]
        reference = similarity.double() / epsilon
        for iterations, more in ((0, 0), (3, 3), (27, 24)):
            for plan in plans:
                plan.iterate(more)
            for _ in range(more):
                reference = reference - reference.logsumexp(2, keepdim=True)
                reference = reference - reference.logsumexp(1, keepdim=True)
            ours, theirs = (plan.assign("argmax") for plan in plans)
            weights = [reference.gather(2, found[:, :, None])[:, :, 0] for found in (ours, theirs)]
            assert (reference.amax(2) - weights[1]).max() < NO_TIE, iterations
            assert (weights[1] - weights[0]).max() < 1e-4  # what float32 cannot tell apart
            differ, total = differ + int((ours != theirs).sum()), total + ours.numel()
    assert 0 < differ < 1e-3 * total


def test_the_logarithm_continues_where_it_ended():
    similarity, *masks = made(3, [(5, 6), (4, 4)])
    plan = LogPlan(similarity, *masks, epsilon=0.05)
    plan.iterate(3)
    plan.iterate(7)
    expected = sinkhorn(similarity, *masks, epsilon=0.05, iterations=10)
    torch.testing.assert_close(plan._log_plan, expected, atol=0, rtol=0)
