"""What a few seeds tell: a mean with its standard error, and a paired difference with its confidence interval."""

from __future__ import annotations

import math
import statistics
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True)
class Mean:
    """The mean of independent values."""

    mean: float
    standard_error: float | None
    """None of one value: it tells nothing about the next"""
    count: int


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A mean paired difference and its interval by Student's t, two-sided at `CONFIDENCE`."""

    mean: float
    low: float
    high: float
    count: int

    @property
    def separated(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low > 0 or self.high < 0

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self) | {"separated": self.separated}


def mean_of(values: Sequence[float]) -> Mean | None:
    """The mean of `values`; None of none."""
    if not values:
        return None
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None
    return Mean(mean=statistics.fmean(values), standard_error=error, count=len(values))


def paired_difference(values: Sequence[float], reference: Sequence[float]) -> Difference | None:
    """The mean of values[i] - reference[i]; None of fewer than two pairs, which have no interval."""
    if len(values) < 2:
        return None
    from scipy.stats import ttest_rel

    with warnings.catch_warnings():  # of a loss of precision where all differences are alike
        warnings.simplefilter("ignore", RuntimeWarning)
        interval = ttest_rel(values, reference).confidence_interval(CONFIDENCE)
    mean = statistics.fmean(value - other for value, other in zip(values, reference, strict=True))
    return Difference(mean=mean, low=float(interval.low), high=float(interval.high), count=len(values))


@dataclass(frozen=True, kw_only=True)
class Rank:
    """How alike two fidelities order configurations."""

    correlation: float
    """Spearman's; NaN where one of them does not order at all"""
    p_value: float
    count: int


def rank_correlation(low: Sequence[float], high: Sequence[float]) -> Rank | None:
    """Of accuracies of the same configurations; None of fewer than three."""
    if len(low) < 3:
        return None
    from scipy.stats import spearmanr

    found = spearmanr(low, high)
    return Rank(correlation=float(found.statistic), p_value=float(found.pvalue), count=len(low))
