"""The Optuna study of a search: which configuration comes next, and what became of each. Imports no Ray.

The study lies in one sqlite file that Optuna's own tools open. It records honestly: a trial that early stopping ended
is PRUNED with its value at every epoch, a failed one FAIL, and only a full budget COMPLETE. Every suggestion is a
function of (search seed, trial number, the trials so far), so a resumed search draws nothing twice.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

from tune.space import Parameter, SearchSettings, Space


class SearchStudy:
    """The study of one search. Trials are known by their number; 0 is the default configuration."""

    def __init__(self, path: Path, space: Space) -> None:
        """The study in the file `path`, made if absent. Trials an earlier run left unfinished come first again."""
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.space = space
        self._storage = RDBStorage(f"sqlite:///{path}")
        self._study = optuna.create_study(
            storage=self._storage, study_name=space.name, direction="maximize", load_if_exists=True
        )
        self._study_id = self._storage.get_study_id_from_name(space.name)
        self._interrupted = [t.number for t in reversed(self.trials()) if t.state == TrialState.RUNNING]

    def next(self) -> tuple[int, dict[str, Any]] | None:
        """(number, searched values) of the trial to run now; None when the budget is spent."""
        if self._interrupted:
            number = self._interrupted.pop()
            self._study.sampler = make_sampler(self.space.search, number)
            return number, self._suggest(optuna.Trial(self._study, self._id(number)))
        number = sum(t.state != TrialState.WAITING for t in self.trials())
        if number >= self.space.search.trials:
            return None
        if number == 0:
            self._enqueue(self.space.default_params)
        elif self.space.search.sampler == "grid":
            self._enqueue(shuffled(self.space.grid()[1:], self.space.search.seed)[number - 1])
        self._study.sampler = make_sampler(self.space.search, number)
        return number, self._suggest(self._study.ask())

    def report(self, number: int, epoch: int, value: float) -> None:
        """Record the value after an epoch; an epoch already known (told again after a restart) is left as it is."""
        if math.isfinite(value) and epoch not in self.trial(number).intermediate_values:
            self._storage.set_trial_intermediate_value(self._id(number), epoch, value)

    def finish(self, number: int, state: TrialState, attributes: Mapping[str, Any]) -> None:
        """End a trial: COMPLETE with its best value, PRUNED (its last value counts), or FAIL without one."""
        for name, value in attributes.items():
            self._storage.set_trial_user_attr(self._id(number), name, value)
        best = max(self.trial(number).intermediate_values.values(), default=None)
        self._study.tell(number, best if state == TrialState.COMPLETE else None, state=state)

    def trial(self, number: int) -> FrozenTrial:
        return self._storage.get_trial(self._id(number))

    def trials(self) -> list[FrozenTrial]:
        """Every trial, by number."""
        return self._study.get_trials(deepcopy=False)

    def _id(self, number: int) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number)

    def _suggest(self, trial: optuna.Trial) -> dict[str, Any]:
        """The searched values of a trial, as configuration values.

        A run that died while it asked leaves a trial with some of its values; the rest are drawn now, as then.
        """
        for parameter in self.space.parameters:
            _suggest(trial, parameter)
        return {p.key: p.decode(trial.params[p.key]) for p in self.space.parameters}

    def _enqueue(self, params: Mapping[str, Any]) -> None:
        """Fix the values of the next trial, once (an earlier run may have died between this and asking)."""
        encoded = {p.key: p.encode(params[p.key]) for p in self.space.parameters}
        self._study.enqueue_trial(encoded, skip_if_exists=True)


def _suggest(trial: optuna.Trial, parameter: Parameter) -> None:
    """Draw the parameter; a value the trial already has stays."""
    if parameter.values is not None:
        trial.suggest_categorical(parameter.key, [parameter.encode(v) for v in parameter.values])
        return
    low, high = parameter.low, parameter.high
    assert low is not None and high is not None
    if parameter.type is int:
        trial.suggest_int(parameter.key, int(low), int(high), step=int(parameter.step or 1), log=parameter.log)
    else:
        trial.suggest_float(parameter.key, low, high, step=parameter.step, log=parameter.log)


def make_sampler(search: SearchSettings, number: int) -> BaseSampler:
    """The sampler for trial `number`, seeded by (search seed, number)."""
    seed = int.from_bytes(hashlib.sha256(f"{search.seed}/{number}".encode()).digest()[:4])
    if search.sampler != "tpe":
        return RandomSampler(seed=seed)
    # A quarter of a small budget at random, then the model: Optuna's default of 10 would be most of 16 trials.
    startup = min(10, max(4, search.trials // 4))
    return TPESampler(seed=seed, n_startup_trials=startup, multivariate=True, constant_liar=True)


def shuffled(points: list[Any], seed: int) -> list[Any]:
    """`points` in an order that the seed alone decides."""
    return sorted(points, key=lambda p: hashlib.sha256(f"{seed}/{sorted(p.items())}".encode()).digest())
