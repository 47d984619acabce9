"""Draw the configurations of a search. Imports no Ray.

Each suggestion is drawn in a fresh study in memory that holds the trials as tune/study/sampler_view.py presents them.
No configuration is drawn twice. With the same seed it would train to the same values, and a sampler that has found a
good one in a small space would draw nothing else.
"""

from __future__ import annotations

import dataclasses
import hashlib
import random
import warnings
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
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
from optuna.trial import FrozenTrial

from tune.spaces.parameter import Parameter
from tune.spaces.samplers import SAMPLERS
from tune.spaces.settings import MAXIMIZED
from tune.spaces.space import Space
from tune.study.curve_sampler import CurveSampler
from tune.study.halving import Ladder
from tune.study.sampler_view import Known, distribution, seen, seen_distribution, seen_params, study_params, view_of

DRAWS = 16
"""Redraws allowed before falling back to a random configuration that was not tried."""


@dataclass(frozen=True)
class Suggestion:
    """Searched values, as the study holds them."""

    params: dict[str, Any]
    distributions: dict[str, BaseDistribution]
    system_attrs: dict[str, Any]
    """values that the sampler reads from the trial later"""


def suggest(
    space: Space,
    trials: Sequence[FrozenTrial],
    ladder: Ladder,
    number: int,
    *,
    warm: Sequence[FrozenTrial] = (),
    fixed: Mapping[str, Any] | None = None,
    known: MutableMapping[int, Known] | None = None,
) -> Suggestion | None:
    """Draw the values of trial `number`, as a function of (space, seed, number, the trials before it).

    Args:
        warm: complete trials of another search, which the sampler sees first.
        fixed: values that the sampler may not choose, as the study holds them.
        known: what earlier calls for the same study have found of its trials.

    Returns:
        Values that no trial has; None if there are none with the `fixed` ones.
    """
    storage = InMemoryStorage()
    with warnings.catch_warnings():  # of two whose arguments may change in a later Optuna
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        more = {"trials": trials, "rungs": ladder.rungs, "fixed": seen_params(space, fixed or {})}
        sampler = make_sampler(space, number, [seen(space, t) for t in warm], **more)
        blind = isinstance(sampler, RandomSampler | CurveSampler)  # it looks at no trial of the view
        if fixed:
            sampler = PartialFixedSampler(seen_params(space, fixed), sampler)
    view = optuna.create_study(directions=directions(space), sampler=sampler, storage=storage, study_name="view")
    view.add_trials([seen(space, t) for t in warm])
    study_id = storage.get_study_id_from_name(view.study_name)
    for trial in () if blind else view_of(space, trials, ladder, {} if known is None else known):
        storage.create_new_trial(study_id, trial)
    if space.search.sampler == "qmc":
        _forward(space, view, storage, number)
    taken = [t.params for t in trials]
    for _ in range(DRAWS):  # each draw stays in the view as running, so TPE and GP avoid it
        drawn = _draw(space, view)
        params = study_params(space, drawn.params)
        kept = {key: value for key, value in drawn.system_attrs.items() if ":relative_params" not in key}
        if params not in taken:
            return given(space, params, kept)
    if space.size is None:  # more than anybody tries: once in a while the same again
        return None if fixed else given(space, params, kept)
    held = {frozenset(params.items()) for params in taken}
    grid = (space.encoded(point) for point in space.grid())
    rest = [p for p in grid if frozenset(p.items()) not in held and p.items() >= (fixed or {}).items()]
    return given(space, random.Random(seed_of(space.search.seed, number)).choice(rest)) if rest else None


def given(space: Space, params: Mapping[str, Any], system_attrs: Mapping[str, Any] | None = None) -> Suggestion:
    """Pair values that are already chosen with what the study declares of them."""
    searched = [p for p in space.parameters if p.key in params]
    return Suggestion(
        {p.key: params[p.key] for p in searched}, {p.key: distribution(p) for p in searched}, dict(system_attrs or {})
    )


def directions(space: Space) -> list[StudyDirection]:
    """Return whether each objective is maximised or minimised."""
    return [
        StudyDirection.MAXIMIZE if name in MAXIMIZED else StudyDirection.MINIMIZE for name in space.search.objectives
    ]


@dataclass(frozen=True)
class SamplerRequest:
    """The input of a sampler, for the draw of one trial."""

    space: Space
    seed: int
    """seed of this trial's draw"""
    search_seed: int
    """the same for every trial of the search, for a sequence that all of them share"""
    startup: int
    """trials drawn at random before a model is fitted"""
    warm: Sequence[FrozenTrial] = ()
    """complete trials of another search"""
    trials: Sequence[FrozenTrial] = ()
    """the trials so far, as the study holds them, with their values after each epoch"""
    rungs: Sequence[int] = ()
    """epochs at which trials are compared, the last one included"""
    fixed: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """values that may not be chosen, in the form of a sampler"""


SamplerFactory = Callable[[SamplerRequest], BaseSampler]


def register_sampler(name: str) -> Callable[[SamplerFactory], SamplerFactory]:
    """Register the decorated function as what makes the sampler `name` of `[search] sampler`.

    It is called for each trial anew, with that trial's seed, so that a resumed search draws as one that was not
    interrupted. The trials before it are in the study that Optuna hands to the sampler.
    """

    def register(make: SamplerFactory) -> SamplerFactory:
        SAMPLERS.add(name, make)
        return make

    return register


def make_sampler(space: Space, number: int, warm: Sequence[FrozenTrial] = (), **more: Any) -> BaseSampler:
    """Make the sampler for trial `number`, seeded by (search seed, number). Raises UserError for an unknown name.

    Args:
        more: further fields of `SamplerRequest`.
    """
    search = space.search
    # A quarter of a small budget at random, then the model: Optuna's default of 10 would be most of 16 trials.
    startup = min(10, max(4, search.trials // 4)) if search.trials else 10
    request = SamplerRequest(space, seed_of(search.seed, number), seed_of(search.seed, 0), startup, warm, **more)
    made: BaseSampler = SAMPLERS.get(search.sampler, source="[search] sampler")(request)
    return made


@register_sampler("tpe")
def _tpe(request: SamplerRequest) -> BaseSampler:
    conditional = any(p.when for p in request.space.parameters)
    return TPESampler(
        seed=request.seed,
        n_startup_trials=request.startup,
        multivariate=True,
        group=conditional,
        constant_liar=True,
    )


@register_sampler("gp")
def _gp(request: SamplerRequest) -> BaseSampler:
    return GPSampler(seed=request.seed, n_startup_trials=request.startup, warn_independent_sampling=False)


@register_sampler("gp_curves")
def _gp_curves(request: SamplerRequest) -> BaseSampler:
    return CurveSampler(
        request.space,
        trials=request.trials,
        rungs=request.rungs,
        seed=request.seed,
        warm=request.warm,
        fixed=request.fixed,
    )


@register_sampler("cmaes")
def _cmaes(request: SamplerRequest) -> BaseSampler:
    warm = list(request.warm) or None
    return CmaEsSampler(seed=request.seed, warn_independent_sampling=False, source_trials=warm)


@register_sampler("nsga2")
def _nsga2(request: SamplerRequest) -> BaseSampler:
    trials = request.space.search.trials
    return NSGAIISampler(seed=request.seed, population_size=min(50, max(4, trials // 4)) if trials else 20)


@register_sampler("qmc")
def _qmc(request: SamplerRequest) -> BaseSampler:
    return QMCSampler(  # one sequence for all trials
        seed=request.search_seed,
        scramble=True,
        independent_sampler=RandomSampler(seed=request.seed),
        warn_independent_sampling=False,
    )


@register_sampler("grid")  # the order of a grid is the study's; what is left over is drawn at random
@register_sampler("random")
def _random(request: SamplerRequest) -> BaseSampler:
    return RandomSampler(seed=request.seed)


def seed_of(seed: int, number: int) -> int:
    """Return the seed of a trial's own draw."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{number}".encode()).digest()[:4])


def _forward(space: Space, view: optuna.Study, storage: InMemoryStorage, number: int) -> None:
    """Advance the sequence so that point `number` comes next: Optuna counts draws in the study, which is new here."""
    _draw(space, view)
    study_id = storage.get_study_id_from_name(view.study_name)
    for key in storage.get_study_system_attrs(study_id):
        if key.startswith("qmc:"):
            storage.set_study_system_attr(study_id, key, number - 1)


def _draw(space: Space, view: optuna.Study) -> FrozenTrial:
    """Draw a new trial of the view: first the values that every trial has, then those that depend on them."""
    trial = view.ask(fixed_distributions={p.key: seen_distribution(p) for p in space.parameters if not p.when})
    for parameter in space.parameters:
        held = study_params(space, trial.params)
        if parameter.when and parameter.active(
            {p.key: p.decode(held[p.key]) for p in space.parameters if p.key in held}
        ):
            _draw_one(trial, parameter)
    return view.get_trials(deepcopy=False)[trial.number]


def _draw_one(trial: optuna.Trial, parameter: Parameter) -> None:
    declared = seen_distribution(parameter)
    if isinstance(declared, CategoricalDistribution):
        trial.suggest_categorical(parameter.key, declared.choices)
    elif isinstance(declared, IntDistribution):
        trial.suggest_int(parameter.key, declared.low, declared.high, step=declared.step, log=declared.log)
    elif isinstance(declared, FloatDistribution):
        trial.suggest_float(parameter.key, declared.low, declared.high, step=declared.step, log=declared.log)
