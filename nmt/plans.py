"""Sinkhorn plans that are read after several numbers of iterations, for a sweep over decodings.

Letters as in nmt/batch.py; P pairs. The plan after some iterations is diag(u) K diag(v), where the kernel K is
exp(similarity / epsilon) and u and v scale its rows and its columns.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from nmt.sinkhorn import HIDDEN, assign, sinkhorn

WIDEST = 300.0
"""largest difference of log-weights in a row of a kernel that is scaled: then u and v, and their products with the
kernel, stay far within float64, whose smallest numbers are exp(-708)"""


class Plan(Protocol):
    """A plan of several pairs."""

    def iterate(self, number: int) -> None:
        """Normalise rows, then columns, `number` times more."""

    def assign(self, assignment: str) -> Tensor:
        """Choose the matches as `nmt.sinkhorn.assign`: (P, N) int64."""


class LogPlan:
    """The logarithm of a plan in float32, the published form."""

    def __init__(self, similarity_PNM: Tensor, mask0_PN: Tensor, mask1_PM: Tensor, *, epsilon: float) -> None:
        self._masks = mask0_PN, mask1_PM
        self._log_plan = sinkhorn(similarity_PNM, *self._masks, epsilon=epsilon, iterations=0)

    def iterate(self, number: int) -> None:
        # An epsilon of 1 leaves the log plan as it is, so further iterations continue where the last ones ended.
        self._log_plan = sinkhorn(self._log_plan, *self._masks, epsilon=1.0, iterations=number)

    def assign(self, assignment: str) -> Tensor:
        return assign(self._log_plan, *self._masks, assignment=assignment)


class ScaledPlan:
    """The kernel, u and v in float64: an iteration is two products of a matrix and a vector for each pair.

    The logarithm needs two exponentials of the whole matrix instead. Each row of the kernel is divided by its largest
    weight, which u makes up for.
    """

    def __init__(self, similarity_PNM: Tensor, mask0_PN: Tensor, mask1_PM: Tensor, *, epsilon: float) -> None:
        self._masks = mask0_PN, mask1_PM
        real_PNM = mask0_PN[:, :, None] & mask1_PM[:, None, :]
        logs_PNM = (similarity_PNM.double() / epsilon).masked_fill(~real_PNM, HIDDEN)
        top_PN1 = logs_PNM.amax(2, keepdim=True)
        self._kernel_PNM = (logs_PNM - top_PN1).exp().masked_fill(~real_PNM, 0)
        # Sums of padding are 0. One is added there, so that no division by 0 spreads.
        self._padding0_PN1 = (~real_PNM.any(2, keepdim=True)).double()
        self._padding1_P1M = (~real_PNM.any(1, keepdim=True)).double()
        # Rows that sum to M / N are as many weights as columns that sum to 1. With rows that sum to 1, u and v would
        # drift apart without end where N differs from M; the plan, whose columns come last, is the same.
        num0_P, num1_P = (mask.sum(1).clamp_min(1).double() for mask in self._masks)
        self._row_sum_P11 = (num1_P / num0_P)[:, None, None]
        self._log_scale0_PN1 = top_PN1
        self._scale1_P1M = torch.ones_like(self._padding1_P1M)

    def iterate(self, number: int) -> None:
        scale0_PN1 = None
        for _ in range(number):
            sum0_PN1 = self._kernel_PNM @ self._scale1_P1M.transpose(1, 2)
            scale0_PN1 = self._row_sum_P11 / (sum0_PN1 + self._padding0_PN1)
            self._scale1_P1M = (scale0_PN1.transpose(1, 2) @ self._kernel_PNM + self._padding1_P1M).reciprocal()
        if scale0_PN1 is not None:
            self._log_scale0_PN1 = scale0_PN1.log()

    def assign(self, assignment: str) -> Tensor:
        mask0_PN, _ = self._masks
        plan_PNM = self._kernel_PNM * self._scale1_P1M
        if assignment == "argmax":  # u scales whole rows: the largest of a row stays where it is
            return plan_PNM.argmax(2).masked_fill(~mask0_PN, -1)
        return assign(plan_PNM.log() + self._log_scale0_PN1, *self._masks, assignment=assignment)


def fast_plan(similarity_PNM: Tensor, mask0_PN: Tensor, mask1_PM: Tensor, *, epsilon: float) -> Plan:
    """Start a plan in the scaling form, or as logarithm where the weights of a kernel's row differ too much.

    A small epsilon would make them underflow: cosines are scaled from an epsilon of 0.0067 on.
    """
    padding_PNM = ~(mask0_PN[:, :, None] & mask1_PM[:, None, :])
    high_PN = similarity_PNM.masked_fill(padding_PNM, -torch.inf).amax(2)
    low_PN = similarity_PNM.masked_fill(padding_PNM, torch.inf).amin(2)
    widest = (high_PN - low_PN).max()  # -inf in rows of padding
    kind = ScaledPlan if float(widest) <= WIDEST * epsilon else LogPlan
    return kind(similarity_PNM, mask0_PN, mask1_PM, epsilon=epsilon)
