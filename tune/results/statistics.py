"""Statistics over a few seeds: a mean with its standard error, a paired difference with its confidence interval."""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True)
class Mean:
    """The mean of independent values."""

    mean: float
    standard_error: float | None
    """None for a single value, which has no spread"""
    count: int

    @property
    def interval(self) -> float | None:
        """Half of the interval by Student's t, two-sided at `CONFIDENCE`; None for a single value."""
        if self.standard_error is None:
            return None
        from scipy.stats import t

        return float(t.ppf((1 + CONFIDENCE) / 2, self.count - 1)) * self.standard_error


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A mean paired difference and its interval by Student's t, two-sided."""

    mean: float
    low: float
    high: float
    count: int
    confidence: float = CONFIDENCE
    """of the interval; where it is one of several that hold together, of all of them"""

    @property
    def separated(self) -> bool:
        """True if the interval does not include 0."""
        return self.low > 0 or self.high < 0

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self) | {"separated": self.separated}


def mean_of(values: Sequence[float]) -> Mean | None:
    """Return the mean of `values`; None if there are none."""
    if not values:
        return None
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None
    return Mean(mean=statistics.fmean(values), standard_error=error, count=len(values))


def paired_difference(
    values: Sequence[float], reference: Sequence[float], *, confidence: float = CONFIDENCE
) -> Difference | None:
    """Return the mean of values[i] - reference[i] and its confidence interval.

    None for fewer than two pairs: they have no interval.
    """
    found = paired_differences([values], reference, confidence=confidence)
    return found[0] if found else None


def paired_differences(
    several: Sequence[Sequence[float]],
    reference: Sequence[float],
    *,
    confidence: float = CONFIDENCE,
    keypoints: int = 0,
) -> list[Difference]:
    """Return the mean of values[i] - reference[i] for each of several, with intervals that hold together.

    Args:
        confidence: of all intervals together.
        keypoints: number that a value is computed over; 0 where it is not known.

    Returns:
        A difference for each; none for fewer than two pairs, which have no interval.
    """
    import numpy as np

    from tune.results.simultaneous import simultaneous_differences

    if not several or len(reference) < 2:
        return []
    table = np.asarray([reference, *several], np.float64)
    means, halves = simultaneous_differences(table, confidence=confidence, keypoints=keypoints)
    return [
        Difference(mean=mean, low=mean - half, high=mean + half, count=len(reference), confidence=confidence)
        for mean, half in zip(means.tolist(), halves.tolist(), strict=True)
    ]


@dataclass(frozen=True, kw_only=True)
class Rank:
    """Rank correlation of two fidelities over the same configurations."""

    correlation: float
    """Spearman's; NaN if all values at one fidelity are equal"""
    p_value: float
    count: int


def rank_correlation(low: Sequence[float], high: Sequence[float]) -> Rank | None:
    """Return Spearman's rank correlation of accuracies at two fidelities.

    None for fewer than three configurations.
    """
    if len(low) < 3:
        return None
    from scipy.stats import spearmanr

    found = spearmanr(low, high)
    return Rank(correlation=float(found.statistic), p_value=float(found.pvalue), count=len(low))


@functools.lru_cache
def expected_maximum(count: int) -> float:
    """Return the mean of the largest of `count` independent standard normal values, the normal order statistic."""
    import numpy as np
    from scipy.special import ndtr

    # The integral of x over the density of the largest; scipy.stats takes a second to import.
    x = np.linspace(-10.0, 10.0, 20_001)
    density = count * np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi) * ndtr(x) ** (count - 1)
    return float(np.trapezoid(x * density, x))


def pooled_deviation(groups: Sequence[Sequence[float]]) -> float | None:
    """Return the standard deviation within groups, pooled over them; None if no group has two values."""
    several = [group for group in groups if len(group) > 1]
    if not several:
        return None
    squares = sum(statistics.variance(group) * (len(group) - 1) for group in several)
    return math.sqrt(squares / sum(len(group) - 1 for group in several))
