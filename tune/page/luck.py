"""What luck alone would give: how far the best of N equally good trials lies above their mean."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tune.evidence.confirmed import Confirmed
from tune.evidence.repeated import Repeated
from tune.results.report import NOISE_POINTS
from tune.results.statistics import expected_maximum, pooled_deviation
from tune.results.summary import Summary


@dataclass(frozen=True, kw_only=True)
class Luck:
    """The expected maximum of equal trials."""

    trials: int
    """trials with a result"""
    deviation: float
    """standard deviation of a training over seeds, in points"""
    points: float
    """expected distance of the best of so many equal trials from their mean, in points"""
    source: str
    """where the deviation comes from, in words"""


def luck_of(summary: Summary, confirmed: Confirmed | None) -> Luck | None:
    """Return what luck would give in a search; None for fewer than two trials with a result."""
    trials = sum(t.accuracy is not None for t in summary.trials)
    if trials < 2:
        return None
    groups = [[r.accuracy for r in c.runs if r.accuracy is not None] for c in _trained(confirmed)]
    measured = pooled_deviation(groups)
    if measured is not None:
        count = sum(len(group) for group in groups if len(group) > 1)
        source = f"measured: {count} trainings of the confirmation, over their seeds"
        deviation = 100 * measured
    else:
        # The rule speaks of the largest difference between two trainings; it is read as its 95 % limit.
        deviation = NOISE_POINTS / (1.96 * math.sqrt(2))
        source = (
            f"not measured: the rule that two trainings of one configuration differ by less than {NOISE_POINTS:g} "
            "points; --confirm measures it"
        )
    return Luck(trials=trials, deviation=deviation, points=deviation * expected_maximum(trials), source=source)


def _trained(confirmed: Confirmed | None) -> list[Repeated]:
    return [confirmed.default, *confirmed.candidates] if confirmed is not None else []
