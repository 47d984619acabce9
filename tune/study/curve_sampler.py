"""The sampler `gp_curves`: expected improvement under a Gaussian process over (configuration, epoch). Imports no Ray.

Other samplers see the order of the trials alone (tune/study/sampler_view.py). This one reads the values of all curves,
of paused and pruned trials too, and asks what a new configuration would reach after the full budget.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import FrozenTrial, TrialState

from tune.spaces.space import Space
from tune.study.curve_model import Array, CurveModel, Observations, log_expected_improvement
from tune.study.places import Places
from tune.study.sampler_view import seen_params

STARTUP = 5
"""trials before the model is asked: the default one, and four at random"""
MOST = 400
"""most observations that the model is given"""
CLIP = 3.0
"""a value counts as no worse than best - CLIP x (best - median), so that failures do not decide the scale"""
RANDOM, CENTRES, NEAR, REACHES = 150, 4, 12, (0.15, 0.04)
"""candidates: so many at random; and around each of the best configurations, so many at each of these distances"""
MOST_GRID = 1000
"""a countable space of at most so many configurations is asked for all of them"""


class CurveSampler(BaseSampler):
    """Draws one trial of a search.

    Args:
        space: the search; it has one objective.
        trials: the trials so far, as the study holds them.
        rungs: epochs at which trials are compared.
        seed: of this draw.
        warm: complete trials of another search, in the form of a sampler. Only their order counts.
        fixed: values that may not be chosen, in the form of a sampler.
    """

    def __init__(
        self,
        space: Space,
        *,
        trials: Sequence[FrozenTrial],
        rungs: Sequence[int],
        seed: int,
        warm: Sequence[FrozenTrial] = (),
        fixed: Mapping[str, Any] | None = None,
    ) -> None:
        self._space, self._trials, self._rungs, self._warm = space, trials, rungs, warm
        self._places, self._fixed = Places(space), fixed or {}
        self._rng = np.random.default_rng(seed)
        self._independent = RandomSampler(seed=seed)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return every searched key, also those that are searched in some trials only."""
        return dict(self._places.distributions)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Choose the values of a trial; none where every candidate was tried."""
        point = self._point()
        if point is None:
            return {}
        return {key: value for key, value in self._places.params(point).items() if key in search_space}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Draw a value at random."""
        return self._independent.sample_independent(study, trial, param_name, param_distribution)

    def _point(self) -> Array | None:
        tried = self._places.of([seen_params(self._space, t.params) for t in self._trials])
        seen = observations(self._trials, tried, self._rungs, warm=warm_observations(self._warm, self._places))
        if (len(self._trials) < STARTUP and not self._warm) or not len(seen):
            candidates = self._new(self._rng.random((RANDOM, tried.shape[1])), tried)
            return candidates[0] if len(candidates) else None
        model = CurveModel(seen, self._places.named_D)
        running = np.array([n for n, t in enumerate(self._trials) if t.state == TrialState.RUNNING], dtype=np.int64)
        if len(running):
            model = model.with_believed(tried[running], running, np.ones(len(running)))
        candidates = self._candidates(model, tried)
        if not len(candidates):
            return None
        new = np.full(len(candidates), len(tried))
        mean, deviation = model.predict(candidates, new, np.ones(len(candidates)))
        own = seen.y_N[seen.run_N >= 0]
        best = float((own if len(own) else seen.y_N).max())
        point: Array = candidates[int(log_expected_improvement(mean, deviation, best).argmax())]
        return point

    def _candidates(self, model: CurveModel, tried: Array) -> Array:
        """Return points that no trial has: all of a small space, else random ones and ones near the best trials."""
        size = self._space.size
        if size is not None and size <= MOST_GRID:
            return self._new(self._places.grid(), tried)
        rng, places = self._rng, tried.shape[1]
        reached, _ = model.predict(tried, np.arange(len(tried)), np.ones(len(tried)))
        found = [rng.random((RANDOM, places))]
        for centre in tried[np.argsort(-reached, kind="stable")[:CENTRES]]:
            for reach in REACHES:
                moved = rng.random((NEAR, places)) < 0.5
                step = rng.normal(0.0, reach, (NEAR, places))
                other = np.where(rng.random((NEAR, places)) < reach, rng.random((NEAR, places)), centre)
                found.append(np.where(moved, np.where(self._places.named_D, other, centre + step), centre))
        return self._new(np.concatenate(found), tried)

    def _new(self, points: Array, tried: Array) -> Array:
        """Return the points as trials can have them, with the fixed values, without those that were tried."""
        if self._fixed:
            given = self._places.of([self._fixed])[0]
            held = np.array([key in self._fixed for key in self._places.distributions])
            points = np.where(held, given, points)
        points = self._places.snapped(np.clip(points, 0.0, 1.0))
        if not len(points) or not len(tried):
            return points
        used = {row.tobytes() for row in tried.round(9)}
        return points[[row.tobytes() not in used for row in points.round(9)]]


def observations(
    trials: Sequence[FrozenTrial], x_TD: Array, rungs: Sequence[int], *, warm: Observations | None = None
) -> Observations:
    """Return what a model is fitted to: the values of each trial at the rungs it reached, and its last one.

    A failed trial has the worst value that counts, one epoch after its last. Of more than `MOST` observations the last
    ones of each trial stay first, and a regular share of the others.

    Args:
        x_TD: the configurations of the trials, which are numbered in their order.
        warm: observations to put before those, of trials with negative numbers.
    """
    run, epoch, value, last = list[int](), list[int](), list[float](), list[bool]()
    for number, trial in enumerate(trials):
        curve = trial.intermediate_values
        ends = max(curve, default=0)
        kept = sorted({r for r in rungs if r in curve} | {ends} - {0})
        failed = trial.state == TrialState.FAIL
        points = [(e, curve[e]) for e in kept] + [(min(ends + 1, rungs[-1]), -math.inf)] * failed
        run += [number] * len(points)
        epoch += [e for e, _ in points]
        value += [v for _, v in points]
        last += [place == len(points) - 1 for place in range(len(points))]
    finite = np.isfinite(value)
    if not finite.any():
        return warm if warm is not None else Observations(x_TD[:0], np.zeros(0, np.int64), np.zeros(0), np.zeros(0))
    best, median = np.max(np.array(value)[finite]), np.median(np.array(value)[finite])
    y_N = np.maximum(value, best - CLIP * (best - median))
    y_N = (y_N - y_N.mean()) / (y_N.std() or 1.0)
    run_N = np.array(run, dtype=np.int64)
    t_N = np.log(epoch) / math.log(rungs[-1]) if rungs[-1] > 1 else np.ones(len(epoch))
    own = Observations(x_TD[run_N], run_N, t_N, y_N).chosen(_thinned(np.array(last)))
    return own if warm is None else warm.joined(own)


def _thinned(last_N: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return which observations stay, in their order: all, or `MOST` with as many last ones as fit."""
    if len(last_N) <= MOST:
        return np.arange(len(last_N))
    kept = np.flatnonzero(last_N)
    rest = np.flatnonzero(~last_N)
    if len(kept) > MOST:
        kept, rest = kept[np.linspace(0, len(kept) - 1, MOST).round().astype(np.int64)], rest[:0]
    share = np.linspace(0, len(rest) - 1, MOST - len(kept)).round().astype(np.int64) if len(rest) else rest
    return np.sort(np.concatenate([kept, rest[share]]))


def warm_observations(warm: Sequence[FrozenTrial], places: Places) -> Observations | None:
    """Return the trials of another search as observations after the full budget: normal quantiles of their ranks."""
    complete = [t for t in warm if t.values]
    if not complete:
        return None
    from scipy.special import ndtri

    order = np.argsort(np.argsort([t.values[0] for t in complete], kind="stable"), kind="stable")
    runs = -1 - np.arange(len(complete))
    y_N = ndtri((order + 0.5) / len(complete))
    return Observations(places.of([t.params for t in complete]), runs, np.ones(len(complete)), y_N)
