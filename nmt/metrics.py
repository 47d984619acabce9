"""Accuracy as the field counts it: correct keypoints / keypoints per category, then the mean over categories.

Letters as in nmt/batch.py; P pairs, A categories.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nmt import distributed


@dataclass(frozen=True)
class Counts:
    """Correct keypoints and keypoints of each category; sums over batches and ranks."""

    correct_A: Tensor
    total_A: Tensor

    def accuracy_per_category(self, categories: Sequence[str]) -> dict[str, float]:
        """Category -> accuracy in [0, 1]; categories without a keypoint are left out."""
        counts = zip(categories, self.correct_A.tolist(), self.total_A.tolist(), strict=True)
        return {name: correct / total for name, correct, total in counts if total}

    def accuracy(self) -> float:
        """Mean over the categories that have keypoints."""
        seen = self.total_A > 0
        return float((self.correct_A[seen] / self.total_A[seen]).mean()) if seen.any() else 0.0

    def reduced(self) -> Counts:
        """Summed over all ranks."""
        return Counts(
            distributed.sum_over_ranks(self.correct_A.clone()), distributed.sum_over_ranks(self.total_A.clone())
        )


def count_correct(predicted_PN: Tensor, match_PN: Tensor, category_P: Tensor, num_categories: int) -> Counts:
    """Counts of matched keypoints (match >= 0) and of those predicted right, by category, float64."""
    matched_PN = match_PN >= 0
    correct_P = ((predicted_PN == match_PN) & matched_PN).sum(1).double()
    zeros_A = torch.zeros(num_categories, dtype=torch.float64, device=match_PN.device)
    return Counts(
        zeros_A.index_add(0, category_P, correct_P), zeros_A.index_add(0, category_P, matched_PN.sum(1).double())
    )
