"""The samplers of a search, and the study as they see it. Imports no Ray.

A sampler that read the study itself would be misled by early stopping: the default configuration, always trained in
full, would count as better than every trial that waits at a rung. So each suggestion is drawn in a fresh study in
memory, its *view*, in which every trial is ranked by the rung where halving leaves it in hindsight.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import (
    BaseSampler,
    CmaEsSampler,
    GPSampler,
    NSGAIISampler,
    PartialFixedSampler,
    QMCSampler,
    RandomSampler,
    TPESampler,
)
from optuna.storages import InMemoryStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from tune.halving import Ladder, Standing, rung_value
from tune.parameter import Parameter
from tune.space import Space

UNTIL = "until"
"""user attribute of a trial: the epoch its last job ends at"""


@dataclass(frozen=True)
class Suggestion:
    """Searched values, as the study holds them."""

    params: dict[str, Any]
    distributions: dict[str, BaseDistribution]
    system_attrs: dict[str, Any]
    """what the sampler wants to find again in its trial"""


def suggest(
    space: Space,
    trials: Sequence[FrozenTrial],
    ladder: Ladder,
    number: int,
    *,
    warm: Sequence[FrozenTrial] = (),
    fixed: Mapping[str, Any] | None = None,
) -> Suggestion:
    """Draw the values of trial `number`, a function of (space, seed, number, the trials before it).

    Args:
        warm: complete trials of another search, for the sampler to see first.
        fixed: values that are not the sampler's to choose, as the study holds them.
    """
    storage = InMemoryStorage()
    with warnings.catch_warnings():  # of two whose arguments may change in a later Optuna
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = make_sampler(space, number, warm)
        if fixed:
            sampler = PartialFixedSampler(dict(fixed), sampler)
    view = optuna.create_study(directions=directions(space), sampler=sampler, storage=storage, study_name="view")
    view.add_trials([*warm, *view_of(trials, ladder)])
    always = {p.key: distribution(p) for p in space.parameters if not p.when}
    trial = view.ask(fixed_distributions=always)
    if space.search.sampler == "qmc":
        trial = _qmc_point(view, storage, number, always)
    for parameter in space.parameters:
        values = {p.key: p.decode(trial.params[p.key]) for p in space.parameters if p.key in trial.params}
        if parameter.when and parameter.active(values):
            _draw(trial, parameter)
    drawn = view.get_trials(deepcopy=False)[trial.number]
    kept = {key: value for key, value in drawn.system_attrs.items() if ":relative_params" not in key}
    return Suggestion(dict(drawn.params), dict(drawn.distributions), kept)


def directions(space: Space) -> list[StudyDirection]:
    """The first objective is maximised, the others minimised."""
    return [StudyDirection.MAXIMIZE, *[StudyDirection.MINIMIZE for _ in space.search.objectives[1:]]]


def make_sampler(space: Space, number: int, warm: Sequence[FrozenTrial] = ()) -> BaseSampler:
    """The sampler for trial `number`, seeded by (search seed, number)."""
    search, seed = space.search, seed_of(space.search.seed, number)
    conditional = any(p.when for p in space.parameters)
    # A quarter of a small budget at random, then the model: Optuna's default of 10 would be most of 16 trials.
    startup = min(10, max(4, search.trials // 4)) if search.trials else 10
    match search.sampler:
        case "tpe":
            return TPESampler(
                seed=seed, n_startup_trials=startup, multivariate=True, group=conditional, constant_liar=True
            )
        case "gp":
            return GPSampler(seed=seed, n_startup_trials=startup, warn_independent_sampling=False)
        case "cmaes":
            return CmaEsSampler(seed=seed, warn_independent_sampling=False, source_trials=list(warm) or None)
        case "nsga2":
            return NSGAIISampler(
                seed=seed, population_size=min(50, max(4, search.trials // 4)) if search.trials else 20
            )
        case "qmc":  # one sequence for all trials
            return QMCSampler(
                seed=seed_of(search.seed, 0),
                scramble=True,
                independent_sampler=RandomSampler(seed=seed),
                warn_independent_sampling=False,
            )
    return RandomSampler(seed=seed)


def seed_of(seed: int, number: int) -> int:
    """The seed of a trial's own draw."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{number}".encode()).digest()[:4])


def _qmc_point(
    view: optuna.Study, storage: InMemoryStorage, number: int, always: dict[str, BaseDistribution]
) -> optuna.Trial:
    """Point `number` of the sequence: Optuna counts its draws in the study, and the view is new."""
    study_id = storage.get_study_id_from_name(view.study_name)
    for key in storage.get_study_system_attrs(study_id):
        if key.startswith("qmc:"):
            storage.set_study_system_attr(study_id, key, number - 1)
    return view.ask(fixed_distributions=always)


def _draw(trial: optuna.Trial, parameter: Parameter) -> None:
    """Draw a parameter that not every trial has."""
    declared = distribution(parameter)
    if isinstance(declared, CategoricalDistribution):
        trial.suggest_categorical(parameter.key, declared.choices)
    elif isinstance(declared, IntDistribution):
        trial.suggest_int(parameter.key, declared.low, declared.high, step=declared.step, log=declared.log)
    elif isinstance(declared, FloatDistribution):
        trial.suggest_float(parameter.key, declared.low, declared.high, step=declared.step, log=declared.log)


def distribution(parameter: Parameter) -> BaseDistribution:
    """The parameter as the study declares it."""
    if parameter.values is not None:
        return CategoricalDistribution([parameter.encode(v) for v in parameter.values])
    low, high = parameter.low, parameter.high
    assert low is not None and high is not None
    if parameter.type is int:
        return IntDistribution(int(low), int(high), step=int(parameter.step or 1), log=parameter.log)
    return FloatDistribution(low, high, step=parameter.step, log=parameter.log)


def view_of(trials: Sequence[FrozenTrial], ladder: Ladder) -> list[FrozenTrial]:
    """The trials as a sampler sees them: all that have a value COMPLETE, in the order of `hindsight`.

    Values at different epochs do not compare, but the order does: the value in the view is the normal quantile of a
    trial's rank, so that samplers that model values (GP), split them (TPE) or rank them (CMA-ES) all can use it. A
    trial without a value yet stays RUNNING, so that no two workers are sent to one place. With several objectives,
    where every trial is trained in full, the values are those of the study.
    """
    scores: dict[int, list[float]] = {
        n: [s] for n, s in ranked({t.number: standing(t) for t in trials}, ladder).items()
    }
    if any(len(t.values or ()) > 1 for t in trials):
        scores = {t.number: t.values for t in trials if t.values and t.state == TrialState.COMPLETE}
    return [
        optuna.trial.create_trial(
            state=TrialState.COMPLETE if t.number in scores else TrialState.FAIL if t.state.is_finished() else t.state,
            values=scores.get(t.number),
            params=t.params,
            distributions=t.distributions,
            system_attrs=t.system_attrs,
        )
        for t in trials
    ]


def ranked(trials: Mapping[int, Standing], ladder: Ladder) -> dict[int, float]:
    """Trial -> the normal quantile of its rank in the order of `hindsight`."""
    left = hindsight(trials, ladder)
    order = sorted(left, key=lambda n: (*left[n], -n))
    return {n: NormalDist().inv_cdf((rank + 0.5) / len(order)) for rank, n in enumerate(order)}


def hindsight(trials: Mapping[int, Standing], ladder: Ladder) -> dict[int, tuple[int, float]]:
    """Trial -> (rung, value there) where halving would leave it, judged by all that is known now.

    A trial passes a rung when it is among the best 1/`factor` there, and stands at the first that it does not pass,
    or has not reached the next of. The default configuration, which no rung ever stops, is judged like any other.
    """
    left: dict[int, tuple[int, float]] = {}
    rest = {n: t for n, t in trials.items() if t.values and not t.failed}
    for n, trial in rest.items():
        if min(ladder.rungs) > trial.epoch:
            left[n] = (trial.epoch, trial.values[trial.epoch])
    passing = [n for n in rest if n not in left]
    for rung, following in zip(ladder.rungs, (*ladder.rungs[1:], None), strict=True):
        here = sorted((n for n in passing if rung in rest[n].values), key=lambda n: (-rung_value(rest[n], rung), n))
        passed = here[: max(1, len(here) // ladder.factor)] if following is not None else []
        for n in here:
            if n not in passed or following not in rest[n].values:
                left[n] = (rung, rest[n].values[rung])
        passing = [n for n in passing if n not in left]
    return left


def standing(trial: FrozenTrial, *, running: bool = False) -> Standing:
    """The trial in the words of tune.halving; only who runs a search knows whether its job is under way."""
    return Standing(
        number=trial.number,
        values=trial.intermediate_values,
        until=trial.user_attrs.get(UNTIL, 0),
        running=running,
        ended=trial.state.is_finished(),
        failed=trial.state == TrialState.FAIL,
    )
