"""Intervals over photographs as well as seeds, for configurations that trained with several seeds.

Seeds say how a difference varies over trainings, on these photographs. Other photographs would change it too, in all
trainings alike. Two variances are added. One is that of the mean over the seeds, paired, as Student's t takes it. The
other is that of the same mean over photographs, with all configurations on the same pairs (tune/evidence/by_pair.py).
Resampling the seeds instead would understate their variance: there are two to ten of them, and five draws of five seeds
vary a fifth too little. The degrees of freedom are Satterthwaite's. They may exceed those of the seeds by far, so the
interval of the seeds alone is the least. What is particular to a seed on a photograph is in both variances. So the
interval is rather too wide than too narrow.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tune.evidence.repeated import Repeated
from tune.results.power import detectable
from tune.results.statistics import CONFIDENCE, Difference, Mean, mean_of

FIELDS = {"val": "accuracy", "test": "test_accuracy"}
"""split -> the field of `Run` with its accuracy"""
SEEDS_ALONE = (
    "seeds alone: no results by pair (trained by an earlier version), or too few photographs of a category; other "
    "photographs would widen the interval"
)


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Standard errors over photographs of one configuration, of its means over seeds."""

    photographs: int
    accuracy: float
    difference: float | None
    """of its difference to the reference; None for the reference, and where no seed has both"""


Spreads = Mapping[str, Spread]
"""name of a configuration -> its errors; without those whose results by pair were not kept"""


def spreads_from_dict(content: Mapping[str, Any]) -> dict[str, Spread]:
    """Decode spreads from plain values. Raises TypeError if they are something else."""
    return {name: Spread(**values) for name, values in content.items()}


def half_interval(mean: Mean, error: float, photographs: int) -> float:
    """Return half of the 95 % interval of a mean over seeds and photographs; of one seed, over photographs alone."""
    own = mean.standard_error or 0.0
    return _half(own**2, mean.count - 1, error**2, photographs - 1)


def interval_over_both(one: Repeated, spread: Spread, *, split: str) -> tuple[float, float]:
    """Return the ends of the 95 % interval of a mean accuracy over seeds and photographs, within [0, 1]."""
    mean = mean_of([value for run in one.runs if (value := getattr(run, FIELDS[split])) is not None])
    if mean is None:
        raise ValueError(f"{one.name}: has a spread and no accuracy")
    half = half_interval(mean, spread.accuracy, spread.photographs)
    return max(0.0, mean.mean - half), min(1.0, mean.mean + half)


def difference_over_both(
    one: Repeated, reference: Repeated, spread: Spread | None, *, split: str = "val"
) -> Difference | None:
    """Return the paired difference to `reference` with its interval over seeds and photographs.

    None for fewer than two seeds, and where its error over photographs is not known.
    """
    values = _differences(one, reference, split)
    if len(values) < 2 or spread is None or spread.difference is None:
        return None
    mean, own = statistics.fmean(values), statistics.variance(values) / len(values)
    half = _half(own, len(values) - 1, spread.difference**2, spread.photographs - 1)
    return Difference(mean=mean, low=mean - half, high=mean + half, count=len(values))


def mean_shown(one: Repeated, known: Spreads) -> Mean | None:
    """Return the mean on val with its standard error over seeds and photographs, or over what is known of them."""
    mean, spread = one.accuracy, known.get(one.name)
    if mean is None or spread is None:
        return mean
    return dataclasses.replace(mean, standard_error=math.hypot(mean.standard_error or 0.0, spread.accuracy))


def is_over_both(one: Repeated, reference: Repeated, known: Spreads) -> bool:
    """True if what is shown of a configuration is over seeds and photographs; False if it is over seeds alone."""
    spread = known.get(one.name)
    return spread is not None and (one is reference or spread.difference is not None)


def difference_shown(one: Repeated, reference: Repeated, known: Spreads) -> Difference | None:
    """Return the difference on val over seeds and photographs, or over seeds alone where that is all that is known."""
    return difference_over_both(one, reference, known.get(one.name)) or one.above(reference)


def smallest_found(reference: Repeated, others: Sequence[Repeated], known: Spreads) -> float | None:
    """Return the difference that such a comparison finds in 80 % of cases, for the noise measured here, in [0, 1].

    The noise is pooled over the variants. None if no variant has two seeds in common with the reference.
    """
    several = [(one, values) for one in others if len(values := _differences(one, reference, "val")) > 1]
    if not several:
        return None
    seeds = max(len(values) for _, values in several)
    own = statistics.fmean(statistics.variance(values) for _, values in several) / seeds
    of_photographs = [s for one, _ in several if (s := known.get(one.name)) and s.difference is not None]
    shared = statistics.fmean((s.difference or 0.0) ** 2 for s in of_photographs) if of_photographs else 0.0
    count = max((s.photographs for s in of_photographs), default=2)
    both = detectable(math.sqrt(own + shared), _freedom(own, seeds - 1, shared, count - 1))
    return max(both, detectable(math.sqrt(own), seeds - 1))  # as the intervals are, see `_half`


def _differences(one: Repeated, reference: Repeated, split: str) -> list[float]:
    """Return the differences over the seeds that both finished."""
    field = FIELDS[split]
    its = {run.seed: value for run in reference.runs if (value := getattr(run, field)) is not None}
    mine = {run.seed: value for run in one.runs if (value := getattr(run, field)) is not None}
    return [mine[seed] - its[seed] for seed in sorted(mine.keys() & its.keys())]


def _half(own: float, own_freedom: int, shared: float, shared_freedom: int) -> float:
    """Return half of the interval for the sum of two estimated variances; at least that for the seeds alone."""
    from scipy.stats import t

    freedom = _freedom(own, own_freedom, shared, shared_freedom)
    both = float(t.ppf((1 + CONFIDENCE) / 2, freedom)) * math.sqrt(own + shared)
    return max(both, float(t.ppf((1 + CONFIDENCE) / 2, max(own_freedom, 1))) * math.sqrt(own))


def _freedom(own: float, own_freedom: int, shared: float, shared_freedom: int) -> float:
    """Return Satterthwaite's degrees of freedom of the sum of two variances; of the seeds' where both are 0."""
    parts = [(v, freedom) for v, freedom in ((own, own_freedom), (shared, shared_freedom)) if v > 0]
    if not parts:
        return float(max(own_freedom, 1))
    return sum(v for v, _ in parts) ** 2 / sum(v**2 / freedom for v, freedom in parts)
