"""The searches that a replay compares, each as an expert would set it. A replay asks them for runs and tells values.

All know the same: every rival is given the default configuration as its first trial, and numbers in their order.
Syne Tune takes part where it is installed; it needs no more than a folder of its own:

    pip install --no-deps --target DIR syne-tune sortedcontainers dill scikit-learn joblib threadpoolctl narwhals \\
        xgboost-cpu statsmodels patsy
    PYTHONPATH=.:DIR python tests/bench/search_efficiency.py
"""

from __future__ import annotations

import dataclasses
import datetime
import importlib.util
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.pruners import BasePruner, HyperbandPruner, NopPruner
from optuna.samplers import BaseSampler, GPSampler, RandomSampler, TPESampler
from optuna.trial import TrialState

from tune.spaces.space import Space
from tune.study.halving import Pause
from tune.study.sampler_view import seen_distribution, seen_params, study_params
from tune.study.study import SearchStudy

METRIC = "val/accuracy"
MANY = 100_000


@dataclass
class Run:
    """A training under way."""

    name: Any
    values: dict[str, Any]
    epoch: int
    """trained so far"""


class Method(Protocol):
    """A search, as a replay drives it."""

    def start(self) -> Run | None:
        """What to train now; None: nothing before another run ends."""

    def report(self, run: Run, value: float) -> bool:
        """Take the value after `run.epoch`; returns whether the run goes on."""


class Ours:
    """The project's search: its study with its sampler and its halving."""

    def __init__(self, space: Space, seed: int, *, sampler: str, scheduler: str = "asha") -> None:
        search = dataclasses.replace(space.search, sampler=sampler, scheduler=scheduler, seed=seed, trials=MANY)
        self.study = SearchStudy(Path(":memory:"), dataclasses.replace(space, search=search))
        self.until: dict[int, int] = {}

    def start(self) -> Run | None:
        job = self.study.next_job()
        if isinstance(job, Pause):
            return None
        self.until[job.number] = job.until
        trial = self.study.trial(job.number)
        return Run(job.number, self.study.params(trial), max(trial.intermediate_values, default=0))

    def report(self, run: Run, value: float) -> bool:
        self.study.report(run.name, run.epoch, value)
        if run.epoch < self.until[run.name]:
            return True
        if run.epoch == self.study.ladder.epochs:
            self.study.finish(run.name, TrialState.COMPLETE, {})
        else:
            self.study.end_job(run.name)
        return False


class Ray:
    """Ray's OptunaSearch and AsyncHyperBandScheduler, called as Ray Tune calls them; numbers keep their order."""

    def __init__(self, space: Space, seed: int, *, reduction_factor: int) -> None:
        from ray.tune.schedulers import AsyncHyperBandScheduler
        from ray.tune.search.optuna import OptunaSearch

        self.space, self.epochs, self.names = space, space.base.train.epochs, itertools.count()
        declared = {p.key: seen_distribution(p) for p in space.parameters}
        first = seen_params(space, space.encoded(space.default_params))
        self.search = OptunaSearch(space=declared, metric=METRIC, mode="max", seed=seed, points_to_evaluate=[first])
        self.scheduler = AsyncHyperBandScheduler(
            time_attr="epoch", metric=METRIC, mode="max", max_t=self.epochs, reduction_factor=reduction_factor
        )

    def start(self) -> Run | None:
        trial = SimpleNamespace(trial_id=f"trial{next(self.names)}")
        params = self.search.suggest(trial.trial_id)
        self.scheduler.on_trial_add(None, trial)
        return Run(trial, values_of(self.space, params), 0)

    def report(self, run: Run, value: float) -> bool:
        result = {METRIC: value, "epoch": run.epoch, "training_iteration": run.epoch}
        over = run.epoch == self.epochs
        if self.scheduler.on_trial_result(None, run.name, result) == "STOP":
            over = True
        if over:  # Ray tells the searcher of the last result as the trial's end alone
            self.search.on_trial_complete(run.name.trial_id, result)
            self.scheduler.on_trial_complete(None, run.name, result)
        else:
            self.search.on_trial_result(run.name.trial_id, result)
        return not over


class Optuna:
    """An Optuna study, asked and told as in its documentation; numbers keep their order."""

    def __init__(self, space: Space, seed: int, *, sampler: BaseSampler, pruner: BasePruner) -> None:
        self.space, self.epochs = space, space.base.train.epochs
        self.study = optuna.create_study(direction="maximize", sampler=sampler, pruner=pruner, study_name=str(seed))
        self.declared = {p.key: seen_distribution(p) for p in space.parameters}
        self.study.enqueue_trial(seen_params(space, space.encoded(space.default_params)))

    def start(self) -> Run | None:
        trial = self.study.ask(fixed_distributions=self.declared)
        return Run(trial, values_of(self.space, trial.params), 0)

    def report(self, run: Run, value: float) -> bool:
        run.name.report(value, run.epoch)
        if run.epoch == self.epochs:
            best = max(run.name.storage.get_trial(run.name._trial_id).intermediate_values.values())
            self.study.tell(run.name, best)
        elif run.name.should_prune():
            self.study.tell(run.name, state=TrialState.PRUNED)
        else:
            return True
        return False


class Syne:
    """A scheduler of Syne Tune, called as its tuner does; numbers keep their order."""

    def __init__(self, space: Space, seed: int, *, kind: str) -> None:
        from syne_tune.optimizer import baselines

        self.space, self.epochs, self.numbers = space, space.base.train.epochs, itertools.count()
        np.random.seed(seed)  # it draws brackets from there
        self.scheduler = getattr(baselines, kind)(
            {p.key: _syne_range(seen_distribution(p)) for p in space.parameters},
            metric=METRIC,
            time_attr="epoch",
            max_t=self.epochs,
            do_minimize=False,
            random_seed=seed,
            reduction_factor=3,
            points_to_evaluate=[seen_params(space, space.encoded(space.default_params))],
        )

    def start(self) -> Run | None:
        from syne_tune.backend.trial_status import Trial

        suggested = self.scheduler.suggest()
        if suggested is None:
            return None
        trial = Trial(next(self.numbers), suggested.config, datetime.datetime.now())
        self.scheduler.on_trial_add(trial)
        return Run(trial, values_of(self.space, suggested.config), 0)

    def report(self, run: Run, value: float) -> bool:
        result = {METRIC: value, "epoch": run.epoch}
        goes_on = str(self.scheduler.on_trial_result(run.name, result)) == "CONTINUE"
        if run.epoch == self.epochs:
            self.scheduler.on_trial_complete(run.name, result)
        return goes_on and run.epoch < self.epochs


def _syne_range(declared: BaseDistribution) -> Any:
    from syne_tune import config_space as syne

    if isinstance(declared, CategoricalDistribution):
        return syne.choice(list(declared.choices))
    assert isinstance(declared, IntDistribution | FloatDistribution)
    if isinstance(declared, IntDistribution):
        return (syne.lograndint if declared.log else syne.randint)(declared.low, declared.high)
    return (syne.loguniform if declared.log else syne.uniform)(declared.low, declared.high)


def values_of(space: Space, params: Mapping[str, Any]) -> dict[str, Any]:
    """Configuration values of what a rival drew."""
    return space.decoded(study_params(space, params))


def _hyperband(space: Space) -> HyperbandPruner:
    return HyperbandPruner(min_resource=1, max_resource=space.base.train.epochs, reduction_factor=3)


def _tpe(seed: int) -> TPESampler:
    return TPESampler(seed=seed, multivariate=True, constant_liar=True)


METHODS: dict[str, Callable[[Space, int], Method]] = {
    "ours: tpe": lambda space, seed: Ours(space, seed, sampler="tpe"),
    "ours: gp_curves": lambda space, seed: Ours(space, seed, sampler="gp_curves"),
    "ours: tpe, hyperband": lambda space, seed: Ours(space, seed, sampler="tpe", scheduler="hyperband"),
    "ours: gp_curves, hyperband": lambda space, seed: Ours(space, seed, sampler="gp_curves", scheduler="hyperband"),
    "ours: gp_curves, full": lambda space, seed: Ours(space, seed, sampler="gp_curves", scheduler="fifo"),
    "ours: random": lambda space, seed: Ours(space, seed, sampler="random"),
    "ray: OptunaSearch + ASHA 3": lambda space, seed: Ray(space, seed, reduction_factor=3),
    "optuna: TPE + Hyperband": lambda s, n: Optuna(s, n, sampler=_tpe(n), pruner=_hyperband(s)),
    "optuna: GP, full": lambda s, n: Optuna(
        s, n, sampler=GPSampler(seed=n, deterministic_objective=False), pruner=NopPruner()
    ),
    "random, full": lambda s, n: Optuna(s, n, sampler=RandomSampler(seed=n), pruner=NopPruner()),
}
if importlib.util.find_spec("syne_tune"):  # no requirement of the project
    METHODS["syne-tune: ASHA"] = lambda s, n: Syne(s, n, kind="ASHA")
    METHODS["syne-tune: ASHA + CQR"] = lambda s, n: Syne(s, n, kind="ASHACQR")
