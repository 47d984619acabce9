"""Sinkhorn in log space, and decoding of similarities to matches: pure functions, masked for padding.

Letters as in nmt/batch.py. The transport plan starts as exp(similarity / epsilon); its rows and columns are normalised
in turn (Sinkhorn and Knopp 1967; Cuturi 2013, arXiv 1306.0895). The paper uses it at inference only.
"""

from __future__ import annotations

import torch
from torch import Tensor

HIDDEN = -1e9
"""log-weight of padding: exactly 0 after exp, and finite, for the difference of two infinities would be NaN"""


def sinkhorn(
    similarity_BNM: Tensor, mask0_BN: Tensor, mask1_BM: Tensor, *, epsilon: float | Tensor, iterations: int
) -> Tensor:
    """Compute the log of the Sinkhorn plan.

    Padding never matters: the plan of a pair is that of its real keypoints alone. The published code lets padded rows
    and columns take part of the mass.

    Args:
        similarity_BNM: any finite scores, float; (B, N, M).
        mask0_BN, mask1_BM: True where a keypoint is real.
        epsilon: entropic regularisation; a tensor of shape (B, 1, 1) gives every pair its own. Small values bring the
            plan near to a permutation and need more iterations.
        iterations: normalisations of the rows, each followed by one of the columns.

    Returns:
        (B, N, M) float32: log of the plan, `HIDDEN` at padding. After one iteration or more, the real columns of its
        exp sum to 1.
    """
    real_BNM = mask0_BN[:, :, None] & mask1_BM[:, None, :]
    log_plan = (similarity_BNM.float() / epsilon).masked_fill(~real_BNM, HIDDEN)
    # In log space the plan neither overflows nor underflows at small epsilon. Padding is hidden again after each step:
    # normalising a padded row, where all entries are equal, would raise it to -log M.
    for _ in range(iterations):
        log_plan = log_plan - log_plan.logsumexp(2, keepdim=True)
        log_plan = log_plan.masked_fill(~real_BNM, HIDDEN)
        log_plan = log_plan - log_plan.logsumexp(1, keepdim=True)
        log_plan = log_plan.masked_fill(~real_BNM, HIDDEN)
    return log_plan


def assign(log_plan_BNM: Tensor, mask0_BN: Tensor, mask1_BM: Tensor, *, assignment: str) -> Tensor:
    """Choose the match of each source keypoint.

    Args:
        log_plan_BNM: log of the plan, or any scores.
        mask0_BN, mask1_BM: True where a keypoint is real.
        assignment: "argmax" (the best target keypoint for each source keypoint, as published; targets may repeat) or
            "hungarian" (one-to-one, with the largest total score).

    Returns:
        (B, N) int64: index of the target keypoint, -1 = none.
    """
    real_BNM = mask0_BN[:, :, None] & mask1_BM[:, None, :]
    scores = log_plan_BNM.masked_fill(~real_BNM, HIDDEN)
    if assignment == "argmax":
        return scores.argmax(2).masked_fill(~mask0_BN, -1)
    return _hungarian(scores, mask0_BN.sum(1), mask1_BM.sum(1))


def _hungarian(scores_BNM: Tensor, num0_B: Tensor, num1_B: Tensor) -> Tensor:
    """Solve the assignment of each pair on the CPU, real keypoints only; surplus source keypoints get -1."""
    from scipy.optimize import linear_sum_assignment

    match_BN = torch.full(scores_BNM.shape[:2], -1, dtype=torch.int64)
    scores, counts = scores_BNM.cpu().double().numpy(), zip(num0_B.tolist(), num1_B.tolist(), strict=True)
    for b, (n, m) in enumerate(counts):
        rows, columns = linear_sum_assignment(scores[b, :n, :m], maximize=True)
        match_BN[b, torch.from_numpy(rows)] = torch.from_numpy(columns)
    return match_BN.to(scores_BNM.device)


def decode(
    similarity_BNM: Tensor, mask0_BN: Tensor, mask1_BM: Tensor, *, epsilon: float, iterations: int, assignment: str
) -> Tensor:
    """Decode similarities to matches: Sinkhorn, then the assignment.

    Args:
        similarity_BNM: cosines of source and target keypoints.
        mask0_BN, mask1_BM: True where a keypoint is real.
        epsilon, iterations: see `sinkhorn`.
        assignment: see `assign`.

    Returns:
        (B, N) int64: index of the target keypoint, -1 = none.
    """
    log_plan = sinkhorn(similarity_BNM, mask0_BN, mask1_BM, epsilon=epsilon, iterations=iterations)
    return assign(log_plan, mask0_BN, mask1_BM, assignment=assignment)
