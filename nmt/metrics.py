"""Accuracy as the field counts it: correct / all keypoints per category, then the mean over categories.

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
    """Numbers of correct keypoints and of keypoints per category; they add up over batches and ranks."""

    correct_A: Tensor
    """float64: for the chance baseline they are expected values"""
    total_A: Tensor
    """float64"""

    def accuracy_per_category(self, categories: Sequence[str]) -> dict[str, float]:
        """Return category -> accuracy in [0, 1]; categories without keypoints are left out."""
        counts = zip(categories, self.correct_A.tolist(), self.total_A.tolist(), strict=True)
        return {name: correct / total for name, correct, total in counts if total}

    def accuracy(self) -> float:
        """Return the mean accuracy, in [0, 1], over the categories that have keypoints; 0 when none has."""
        seen = self.total_A > 0
        return float((self.correct_A[seen] / self.total_A[seen]).mean()) if seen.any() else 0.0

    def reduced(self) -> Counts:
        """Return the counts summed over all ranks."""
        return Counts(
            distributed.sum_over_ranks(self.correct_A.clone()), distributed.sum_over_ranks(self.total_A.clone())
        )


def count_correct(predicted_PN: Tensor, match_PN: Tensor, category_P: Tensor, num_categories: int) -> Counts:
    """Count keypoints that have a match, and the correct predictions among them.

    Args:
        predicted_PN: predicted target keypoint of each source keypoint, -1 = none.
        match_PN: true target keypoint, -1 = none or padding.
        category_P: category index of each pair.
        num_categories: number of categories.
    """
    correct_P, total_P = correct_keypoints(predicted_PN, match_PN)
    zeros_A = torch.zeros(num_categories, dtype=torch.float64, device=match_PN.device)
    return Counts(zeros_A.index_add(0, category_P, correct_P), zeros_A.index_add(0, category_P, total_P))


def correct_keypoints(predicted_PN: Tensor, match_PN: Tensor) -> tuple[Tensor, Tensor]:
    """Return, for each pair, the correct predictions and the keypoints that have a match: (P,) float64 both."""
    matched_PN = match_PN >= 0
    # float64 counts exactly, and the chance baseline needs fractions.
    return ((predicted_PN == match_PN) & matched_PN).sum(1).double(), matched_PN.sum(1).double()
