"""Exponential moving average of a matcher's weights."""

from __future__ import annotations

import copy

import torch

from nmt.model.matcher import Matcher


class WeightAverage:
    """Matcher whose weights are the moving average of another's, and meet the same constraints.

    It is in evaluation mode. A frozen backbone is shared, not copied.

    Args:
        matcher: the matcher that trains, with its initial weights; frozen parts are known by their gradient.
        decay: most of the average that a step keeps.
    """

    def __init__(self, matcher: Matcher, decay: float) -> None:
        self.decay = decay
        backbone = matcher.backbone
        frozen = backbone is not None and not any(p.requires_grad for p in backbone.parameters())
        self.matcher = copy.deepcopy(matcher, {id(backbone): backbone} if frozen else {})
        self.matcher.requires_grad_(False).eval()

    @torch.no_grad()
    def update(self, matcher: Matcher, step: int) -> None:
        """Move the average towards the weights after an optimizer step.

        Early steps keep less, (1 + step) / (10 + step), else the initial weights would dominate a short training.

        Args:
            matcher: the matcher that trains.
            step: steps taken before this one, 0 = the first.
        """
        kept = min(self.decay, (1 + step) / (10 + step))
        both = zip(self.matcher.parameters(), matcher.parameters(), strict=True)
        averages, weights = zip(*((a, w.detach()) for a, w in both if w.requires_grad), strict=True)
        torch._foreach_lerp_(averages, weights, 1 - kept)  # a few fused kernels for all weights
        self.matcher.head.enforce_constraints()  # the mean of unit vectors is shorter
