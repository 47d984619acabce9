"""What luck alone would show: how far the best of N equally good trials lies above the default, which is one of them.

A search names the best of N trials. Two equal trainings differ by luck, and the best of many equal ones by more. All
trials with a result count, those stopped early too: the luck of a seed lasts, and early stopping promotes it.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tune.results.statistics import expected_maximum, pooled_deviation

ASSUMED = 1.0
"""standard deviation of a training over seeds, in points, where nothing has measured it

This project measured 1.2 (`willow_ablation`, 15 variants of 3 seeds), 0.9 (the tutorial's confirmation, 5 seeds) and
0.5 (`voc_features`, 5 seeds, on test)."""
RARE = 0.05
"""probability of a gain above `Luck.limit` where all trials are equal"""


@dataclass(frozen=True, kw_only=True)
class Luck:
    """What the best of equal trials gains."""

    trials: int
    """trials with a result, the default one of them"""
    deviation: float
    """standard deviation of a training over seeds, in points"""
    points: float
    """expected gain of the best of so many equal trials, in points: above their mean, and so above the default"""
    limit: float
    """gain over the default, in points, that one search of 20 exceeds where all trials are equal"""
    source: str
    """where the deviation comes from, in words"""

    @property
    def pair(self) -> float:
        """The difference, in points, that two equal trainings exceed in one case of 20."""
        return 1.96 * math.sqrt(2) * self.deviation

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return dataclasses.asdict(self)


def luck_of(trials: int, repeated: Sequence[Sequence[float]] = ()) -> Luck | None:
    """Return what luck would show in a search; None for fewer than two trials.

    Args:
        trials: trials with a result.
        repeated: for each configuration that trained over seeds, its accuracies in [0, 1].
    """
    if trials < 2:
        return None
    measured = pooled_deviation(repeated)
    count = sum(len(group) for group in repeated if len(group) > 1)
    deviation = 100 * measured if measured is not None else ASSUMED
    source = f"measured by --confirm, {count} trainings" if measured is not None else "assumed; --confirm measures it"
    return Luck(
        trials=trials,
        deviation=deviation,
        points=deviation * expected_maximum(trials),
        limit=deviation * rare_gain(trials),
        source=source,
    )


@functools.lru_cache
def rare_gain(count: int) -> float:
    """Return the gain of the best of `count` standard normal values over the first that is exceeded with `RARE`."""
    import numpy as np
    from scipy.special import ndtr

    x = np.linspace(-10.0, 10.0, 4001)
    density = np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)

    low, high = 0.0, 20.0
    while high - low > 1e-6:
        gain = (low + high) / 2
        not_exceeded = float(np.trapezoid(density * ndtr(x + gain) ** (count - 1), x))
        low, high = (gain, high) if not_exceeded < 1 - RARE else (low, gain)
    return high
