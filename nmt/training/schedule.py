"""The learning rate's course over a training, a pure function of the step. So a resumed training continues it."""

from __future__ import annotations

import math

from nmt.config import Config


def learning_rate_factor(config: Config, step: int) -> float:
    """Compute the factor of the learning rate in an optimizer step.

    Args:
        config: the schedule, and the length of the whole training.
        step: steps taken before it since the start of the training, 0 = the first.

    Returns:
        Above 0 and at most 1.
    """
    optim, per_epoch = config.optim, config.train.steps_per_epoch
    warmup = optim.warmup_epochs * per_epoch
    rise = min((step + 1) / warmup, 1.0) if warmup else 1.0
    if optim.schedule == "cosine":
        passed = max(step - warmup, 0.0) / (config.train.epochs * per_epoch - warmup)
        return rise * (1 + math.cos(math.pi * passed)) / 2
    return rise * optim.gamma ** sum(step // per_epoch >= milestone for milestone in optim.milestones)
