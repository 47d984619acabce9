"""The study as a sampler sees it. Imports no Ray.

Reading the study itself would mislead a sampler twice. First by early stopping: the default configuration, always
trained in full, would count as better than every paused trial. So every trial is ranked by the rung where halving would
leave it in hindsight. Second by lists of numbers: a study holds `values = [3e-4, 1e-3, 3e-3]` as three names, all
equally far from each other. So a sampler sees their positions in the order of size.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from tune.spaces.parameter import Parameter
from tune.spaces.space import Space
from tune.study.halving import Ladder, Standing, rung_value

UNTIL = "until"
"""user attribute of a trial: the epoch at which its last job ends"""


def distribution(parameter: Parameter) -> BaseDistribution:
    """Return the parameter as the study declares it."""
    if parameter.values is not None:
        return CategoricalDistribution([parameter.encode(v) for v in parameter.values])
    low, high = parameter.low, parameter.high
    assert low is not None and high is not None
    if parameter.type is int:
        return IntDistribution(int(low), int(high), step=int(parameter.step or 1), log=parameter.log)
    return FloatDistribution(low, high, step=parameter.step, log=parameter.log)


def seen_distribution(parameter: Parameter) -> BaseDistribution:
    """Return the parameter as a sampler sees it: for listed numbers, the position in their order."""
    if parameter.ordered is not None:
        return IntDistribution(0, len(parameter.ordered) - 1)
    return distribution(parameter)


def seen_params(space: Space, params: Mapping[str, Any]) -> dict[str, Any]:
    """Convert searched values from the form of the study to that of a sampler."""
    return {
        p.key: params[p.key] if p.ordered is None else p.ordered.index(p.decode(params[p.key]))
        for p in space.parameters
        if p.key in params
    }


def study_params(space: Space, params: Mapping[str, Any]) -> dict[str, Any]:
    """Convert what a sampler drew to the form of the study."""
    return {
        p.key: p.snapped(params[p.key]) if p.ordered is None else p.encode(p.ordered[params[p.key]])
        for p in space.parameters
        if p.key in params
    }


def seen(space: Space, trial: FrozenTrial) -> FrozenTrial:
    """Convert the values of a trial of a study to the form of a sampler."""
    return optuna.trial.create_trial(
        state=trial.state if trial.state.is_finished() else TrialState.RUNNING,
        values=trial.values,
        params=seen_params(space, trial.params),
        distributions={p.key: seen_distribution(p) for p in space.parameters if p.key in trial.params},
        system_attrs=trial.system_attrs,
    )


class SharedTrial(FrozenTrial):
    """A trial that a study in memory takes over with the dictionaries it has.

    Optuna copies whatever is in a trial that it is given. For thousands of trials that takes longer than the draw.
    """

    def __deepcopy__(self, memo: object) -> FrozenTrial:
        copied = FrozenTrial.__new__(FrozenTrial)
        copied.__dict__.update(self.__dict__)
        return copied


@dataclass(frozen=True)
class Known:
    """What does not change of a trial in the view until the study has more of it."""

    trial: FrozenTrial
    """the trial of the study"""
    standing: Standing
    seen: FrozenTrial
    """the trial in the form of a sampler"""


def view_of(
    space: Space, trials: Sequence[FrozenTrial], ladder: Ladder, known: MutableMapping[int, Known]
) -> list[SharedTrial]:
    """Return the trials as a sampler sees them: all that have a value COMPLETE, in the order of `hindsight`.

    Values at different epochs do not compare, but their order does. The value in the view is the normal quantile of the
    trial's rank, which suits samplers that model values (GP), split them (TPE) or rank them (CMA-ES). A trial without a
    value is RUNNING, so that the sampler avoids its place. With several objectives every trial is trained in full,
    and the values are those of the study.

    Args:
        known: number -> what earlier calls have found, kept here. It is made anew for a trial that is another object.
    """
    for trial in trials:
        if trial.number not in known or known[trial.number].trial is not trial:
            known[trial.number] = Known(trial, standing(trial), seen(space, trial))
    scores: dict[int, list[float]] = {
        n: [s] for n, s in ranked({t.number: known[t.number].standing for t in trials}, ladder).items()
    }
    if any(len(t.values or ()) > 1 for t in trials):
        scores = {t.number: t.values for t in trials if t.values and t.state == TrialState.COMPLETE}
    return [_shown(known[t.number], scores.get(t.number)) for t in trials]


def _shown(known: Known, values: list[float] | None) -> SharedTrial:
    if values is not None:
        state = TrialState.COMPLETE
    else:
        state = TrialState.FAIL if known.trial.state.is_finished() else TrialState.RUNNING
    return SharedTrial(
        number=known.trial.number,
        state=state,
        value=None,
        values=values,
        datetime_start=known.seen.datetime_start,
        datetime_complete=known.seen.datetime_complete,
        params=known.seen.params,
        distributions=known.seen.distributions,
        user_attrs={},
        system_attrs=known.seen.system_attrs,
        intermediate_values={},
        trial_id=known.trial.number,
    )


def ranked(trials: Mapping[int, Standing], ladder: Ladder) -> dict[int, float]:
    """Return trial -> normal quantile of its rank in the order of `hindsight`."""
    left = hindsight(trials, ladder)
    order = sorted(left, key=lambda n: (*left[n], -n))
    normal = NormalDist()
    return {n: normal.inv_cdf((rank + 0.5) / len(order)) for rank, n in enumerate(order)}


def hindsight(trials: Mapping[int, Standing], ladder: Ladder) -> dict[int, tuple[int, float]]:
    """Return trial -> (rung, value there) where halving would leave it, judged by all that is known now.

    A trial passes a rung if it is among the best 1/`factor` there. It is left at the first rung that it does not pass,
    or whose next rung it has not reached. The default configuration, which no rung stops, is judged like any other.
    """
    left: dict[int, tuple[int, float]] = {}
    rest = {n: t for n, t in trials.items() if t.values and not t.failed}
    for n, trial in rest.items():
        if ladder.rungs[0] > trial.epoch:
            left[n] = (trial.epoch, trial.values[trial.epoch])
    passing = [n for n in rest if n not in left]
    for rung, following in zip(ladder.rungs, (*ladder.rungs[1:], None), strict=True):
        here = sorted((n for n in passing if rung in rest[n].values), key=lambda n: (-rung_value(rest[n], rung), n))
        passed = set(here[: max(1, len(here) // ladder.factor)] if following is not None else [])
        for n in here:
            if n not in passed or following not in rest[n].values:
                left[n] = (rung, rest[n].values[rung])
        passing = [n for n in passing if n not in left]
    return left


def standing(trial: FrozenTrial, *, running: bool = False, aside: bool = False) -> Standing:
    """Return the progress of a trial; only the process that runs a search knows if its job is running, or waits."""
    return Standing(
        number=trial.number,
        values=trial.intermediate_values,
        until=trial.user_attrs.get(UNTIL, 0),
        running=running,
        aside=aside,
        ended=trial.state.is_finished(),
        failed=trial.state == TrialState.FAIL,
    )
