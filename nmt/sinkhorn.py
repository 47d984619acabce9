"""Log-space Sinkhorn and the decoding of similarities to matches: pure functions, masked for padding.

Letters as in nmt/batch.py. The plan is exp(similarity / epsilon), its rows and columns scaled in turn (Sinkhorn and
Knopp 1967; Cuturi 2013), which the paper uses at inference only.
"""

from __future__ import annotations

import torch
from torch import Tensor

HIDDEN = -1e9
"""log-weight of padding: exactly zero after exp, finite under subtraction"""


def sinkhorn(
    similarity_BNM: Tensor, mask0_BN: Tensor, mask1_BM: Tensor, *, epsilon: float | Tensor, iterations: int
) -> Tensor:
    """The log plan after `iterations` of rows then columns.

    Args:
        similarity_BNM: any finite scores, float.
        mask0_BN, mask1_BM: True where a keypoint is real.
        epsilon: regularisation; a tensor of shape (B, 1, 1) gives every pair its own.

    Returns:
        (B, N, M) float32: log of the plan, `HIDDEN` at padding; its exp has real columns that sum to 1.
    """
    real_BNM = mask0_BN[:, :, None] & mask1_BM[:, None, :]
    log_plan = (similarity_BNM.float() / epsilon).masked_fill(~real_BNM, HIDDEN)
    for _ in range(iterations):
        log_plan = log_plan - log_plan.logsumexp(2, keepdim=True)
        log_plan = log_plan.masked_fill(~real_BNM, HIDDEN)
        log_plan = log_plan - log_plan.logsumexp(1, keepdim=True)
        log_plan = log_plan.masked_fill(~real_BNM, HIDDEN)
    return log_plan


def assign(log_plan_BNM: Tensor, mask0_BN: Tensor, mask1_BM: Tensor, *, assignment: str) -> Tensor:
    """The match of each source keypoint, (B, N) int64, -1 = none.

    Args:
        assignment: "argmax" (the best target of each source keypoint; targets may repeat) or "hungarian" (the
            one-to-one assignment of largest total log plan).
    """
    real_BNM = mask0_BN[:, :, None] & mask1_BM[:, None, :]
    scores = log_plan_BNM.masked_fill(~real_BNM, HIDDEN)
    if assignment == "argmax":
        return scores.argmax(2).masked_fill(~mask0_BN, -1)
    return _hungarian(scores, mask0_BN.sum(1), mask1_BM.sum(1))


def _hungarian(scores_BNM: Tensor, num0_B: Tensor, num1_B: Tensor) -> Tensor:
    from scipy.optimize import linear_sum_assignment

    match_BN = torch.full(scores_BNM.shape[:2], -1, dtype=torch.int64)
    scores, counts = scores_BNM.double().cpu().numpy(), zip(num0_B.tolist(), num1_B.tolist(), strict=True)
    for b, (n, m) in enumerate(counts):
        rows, columns = linear_sum_assignment(scores[b, :n, :m], maximize=True)
        match_BN[b, torch.from_numpy(rows)] = torch.from_numpy(columns)
    return match_BN.to(scores_BNM.device)


def decode(
    similarity_BNM: Tensor, mask0_BN: Tensor, mask1_BM: Tensor, *, epsilon: float, iterations: int, assignment: str
) -> Tensor:
    """Similarities -> matches (B, N), -1 = none: Sinkhorn, then the assignment."""
    log_plan = sinkhorn(similarity_BNM, mask0_BN, mask1_BM, epsilon=epsilon, iterations=iterations)
    return assign(log_plan, mask0_BN, mask1_BM, assignment=assignment)
