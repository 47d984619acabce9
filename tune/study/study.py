"""The Optuna study of a search: which job comes next, and what became of each trial. Imports no Ray.

The study is one sqlite file that Optuna's own tools open. A trial that early stopping ended is PRUNED with its value at
every epoch, a failed one is FAIL, and only a full budget is COMPLETE. A trial without a job, such
as one that pauses at a rung, is WAITING. The duration of an ended trial is what it trained, without its pauses. The
study is the only state of a search: every suggestion and every decision is a function of (search settings, trials so
far). So a resumed search draws and promotes nothing twice.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import math
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from nmt.config import Config, to_dict
from nmt.errors import UserError
from nmt.training.packable import is_shared, shape
from tune.spaces.space import Space
from tune.study.budget import epochs_left, may_start
from tune.study.database import label, open_storage, park, write_duration, write_state
from tune.study.halving import Ladder, NextJob, Pause, Standing, next_job
from tune.study.reselect import SEED, fresh_seed, is_repeat, next_repeat, reserved_epochs, searched, with_seed_of
from tune.study.sampler import Suggestion, directions, given, suggest
from tune.study.sampler_view import UNTIL, Known, standing

About = Mapping[str, Any]
NOTHING: About = types.MappingProxyType({})
ORIGIN = "origin"
"""user attribute of a trial that came from another search: that search and its trial there"""


@dataclass(frozen=True)
class Job:
    """Train trial `number` from its checkpoint, or from the start, to the end of epoch `until`."""

    number: int
    config: Config
    until: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as a trial's process receives them."""
        return {"number": self.number, "configuration": to_dict(self.config), "until": self.until}


class SearchStudy:
    """The study of one search. Trials are known by their number; 0 is the default configuration.

    Only the process that runs a search writes its study (tune.results.lock). So every trial is kept in memory, and read
    again once it was written. Optuna's own cache holds no paused trials, which are most of a search.
    """

    def __init__(self, path: Path, space: Space, *, warm: Sequence[FrozenTrial] = (), about: About = NOTHING) -> None:
        """Open the study in the file `path`, or create it. Jobs that an earlier run left unfinished come first.

        Args:
            warm: trials of another search, for the sampler alone.
            about: attributes of the study, which other tools show.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.space, self._warm = space, warm
        self.ladder = ladder(space)
        self.error: UserError | None = None
        """the error of the file that ended the search; Ray itself only keeps its text"""
        self._storage = open_storage(path, failed=self._note)
        self._study = optuna.create_study(
            storage=self._storage, study_name=space.name, directions=directions(space), load_if_exists=True
        )
        label(self._study, space.search.objectives, about)
        self._study_id = self._storage.get_study_id_from_name(space.name)
        park(self._storage, self._study_id)
        self._running, self._aside = set[int](), set[int]()
        self._trials = list[FrozenTrial]()
        """each trial as the file holds it: another object once it was written"""
        self._standings, self._known = list[Standing](), dict[int, Known]()
        self._size = space.size or math.inf
        for trial in self._storage.get_all_trials(self._study_id, deepcopy=False):
            self._keep(trial)

    def next_job(self, *, out_of_time: bool = False) -> Job | Pause:
        """Return the job to run now, which counts as running until `end_job` or `finish`; none when out of time."""
        if out_of_time:
            return Pause.WAIT if self._running else Pause.FINISHED
        decision, again = self._decide(), None
        if decision is Pause.FINISHED and self.space.search.reselect:
            decision, again = next_repeat(self.space, self._trials, self._standings)
        if isinstance(decision, Pause):
            return decision
        job = self._begin(decision, again=again)
        assert job is not None, "no trial begins in a space that is used up"
        return job

    def _decide(self) -> NextJob | Pause:
        search, standings = self.space.search, [self._standings[t.number] for t in searched(self._trials)]
        return next_job(
            standings,
            self.ladder,
            number=len(self._trials),
            may_start=len(standings) < self._size and may_start(search, standings, self.ladder),
            epochs_left=epochs_left(search, standings, reserved=reserved_epochs(self.space, self._trials)),
        )

    def _begin(
        self, decision: NextJob, fixed: Mapping[str, Any] | None = None, *, again: FrozenTrial | None = None
    ) -> Job | None:
        """Begin the job; None if no new trial has the `fixed` values. A new trial may repeat the trial `again`."""
        number, until = decision.number, decision.until
        if number == len(self._trials):
            if not self._add(number, until, fixed or {}, again):
                return None
        else:
            self._storage.set_trial_user_attr(self._id(number), UNTIL, until)
            write_state(self._storage, self._id(number), TrialState.RUNNING)
        self._running.add(number)
        self._read(number)
        return Job(number, self.configuration(number), until)

    def next_pack(self, size: int, *, out_of_time: bool = False) -> list[Job] | Pause:
        """Return the next job, and up to `size` - 1 more that can train packed with it: same shape, same epochs.

        A new trial takes the values that decide its shape from the first of its pack.
        """
        first = self.next_job(out_of_time=out_of_time)
        if isinstance(first, Pause):
            return first
        pack = [first]
        while len(pack) < size and (more := self._next_like(first)) is not None:
            pack.append(more)
        return pack

    def _next_like(self, first: Job) -> Job | None:
        decision = self._decide()
        if isinstance(decision, Pause) or decision.until != first.until:
            return None
        number, start = decision.number, self._standings[first.number].epoch
        if number == len(self._trials):
            if start or (fixed := _fixed_like(self, first, number)) is None:
                return None
            return self._begin(decision, fixed)
        alike = shape(self.configuration(number)) == shape(first.config)
        return self._begin(decision) if alike and self._standings[number].epoch == start else None

    def end_job(self, number: int) -> None:
        """Record that the trial's job has ended at its rung: the trial pauses."""
        self._running.discard(number)
        write_state(self._storage, self._id(number), TrialState.WAITING)
        self._read(number)

    def interrupt(self, number: int, *, aside: bool) -> None:
        """Record that the trial's job ended early. The trial continues next or, set `aside`, in the next run."""
        (self._aside.add if aside else self._aside.discard)(number)
        self.end_job(number)

    def standings(self) -> list[Standing]:
        """Return the progress of every trial, by number."""
        return list(self._standings)

    def configuration(self, number: int) -> Config:
        """Return the whole configuration of a trial."""
        trial = self.trial(number)
        return with_seed_of(trial, self.space.configuration(self.params(trial)))

    def params(self, trial: FrozenTrial) -> dict[str, Any]:
        """Return the searched values of a trial, as configuration values."""
        return self.space.decoded(trial.params)

    def report(self, number: int, epoch: int, value: float) -> None:
        """Record the value after an epoch. An epoch that is known already is left as it is."""
        if math.isfinite(value) and epoch not in self.trial(number).intermediate_values:
            self._storage.set_trial_intermediate_value(self._id(number), epoch, value)
            self._read(number)

    def finish(
        self, number: int, state: TrialState, attributes: Mapping[str, Any], *, others: Sequence[float] = ()
    ) -> None:
        """End a trial: COMPLETE with its best value, PRUNED (its last value counts), or FAIL without one.

        Args:
            others: values of the objectives after the first, for a COMPLETE trial.
        """
        self._running.discard(number)
        for name, value in attributes.items():
            self._storage.set_trial_user_attr(self._id(number), name, value)
        complete = state == TrialState.COMPLETE
        best = max(self.trial(number).intermediate_values.values()) if complete else None
        write_state(self._storage, self._id(number), TrialState.RUNNING)  # Optuna ends no trial that waits
        self._study.tell(number, [best, *others] if best is not None else None, state=state)
        write_duration(self._storage, self._id(number), attributes.get("seconds"))
        self._read(number)

    def trial(self, number: int) -> FrozenTrial:
        """Return one trial. It may not be changed, and is another object once the study has more of it."""
        return self._trials[number]

    def trials(self) -> list[FrozenTrial]:
        """Return every trial, by number, as `trial` returns one."""
        return list(self._trials)

    def _read(self, number: int) -> None:
        """Keep a trial as the file holds it now."""
        self._keep(self._storage.get_trial(self._id(number)))

    def _keep(self, trial: FrozenTrial) -> None:
        number = trial.number
        progress = standing(trial, running=number in self._running, aside=number in self._aside)
        self._trials[number : number + 1], self._standings[number : number + 1] = [trial], [progress]

    def _note(self, error: UserError) -> None:
        self.error = error

    def _id(self, number: int) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number)

    def _add(self, number: int, until: int, fixed: Mapping[str, Any], again: FrozenTrial | None) -> bool:
        """Write a new trial to the study, its values and its first job at once; False if none is left to draw."""
        chosen = given(self.space, again.params) if again else self._chosen(number, fixed)
        if chosen is None:
            return False
        attributes = {UNTIL: until, **_origin(self.space, number, again)}
        trial = dataclasses.asdict(chosen) | {"user_attrs": attributes, "state": TrialState.RUNNING}
        self._study.add_trial(optuna.trial.create_trial(**trial))
        return True

    def _chosen(self, number: int, fixed: Mapping[str, Any]) -> Suggestion | None:
        if (values := self.known_values(number)) is not None:
            return given(self.space, self.space.encoded(values))
        past, rungs = searched(self._trials), judged(self.space)
        return suggest(self.space, past, rungs, number, warm=self._warm, fixed=fixed, known=self._known)

    def known_values(self, number: int) -> Mapping[str, Any] | None:
        """Return the searched values of a trial that no sampler draws; None for any other."""
        space, repeats = self.space, sum(map(is_repeat, self._trials[:number]))
        if number == 0:
            return space.default_params
        if number <= len(space.given):
            return space.given[number - 1].params
        if space.search.sampler == "grid":
            return self._points[number - repeats - 1]
        return None

    @functools.cached_property
    def _points(self) -> list[dict[str, Any]]:
        """Every configuration but the default one, in the order of a grid search."""
        return shuffled(self.space.grid()[1:], self.space.search.seed)


def _origin(space: Space, number: int, again: FrozenTrial | None) -> dict[str, Any]:
    """Return the attributes of a new trial that say where its configuration comes from."""
    if again is not None:
        kept = {name: value for name, value in again.user_attrs.items() if name == ORIGIN}
        return kept | {SEED: fresh_seed(space)}
    return {ORIGIN: space.given[number - 1].origin} if 0 < number <= len(space.given) else {}


def _fixed_like(study: SearchStudy, first: Job, number: int) -> dict[str, Any] | None:
    """Return the values that give a new trial the shape of `first`; None if its values are given already."""
    if (values := study.known_values(number)) is not None:
        return {} if shape(study.space.configuration(values)) == shape(first.config) else None
    params = study.trial(first.number).params
    return {key: value for key, value in params.items() if is_shared(key, first.config)}


def ladder(space: Space) -> Ladder:
    """Return the rungs at which a search compares its trials; without promotion every job has the full budget."""
    search, epochs = space.search, space.base.train.epochs
    promotes = search.scheduler in ("asha", "hyperband")
    return Ladder(
        epochs=epochs,
        grace=search.grace_epochs if promotes else epochs,
        factor=search.reduction_factor,
        brackets=search.scheduler == "hyperband",
    )


def judged(space: Space) -> Ladder:
    """Return the rungs at which a sampler compares trials, also where a scheduler stops them instead of promoting."""
    search, epochs = space.search, space.base.train.epochs
    grace = epochs if search.scheduler == "fifo" else search.grace_epochs
    return Ladder(epochs=epochs, grace=grace, factor=search.reduction_factor)


def objective_values(space: Space, config: Config, best: Mapping[str, Any]) -> list[float]:
    """Return the value of each objective for a trial with this configuration, at its best epoch."""
    from nmt.model.matcher import decoder_parameters

    names = space.search.objectives
    return [float(decoder_parameters(config.model) if n == "decoder_parameters" else best[n]) for n in names]


def shuffled(points: list[dict[str, Any]], seed: int) -> list[dict[str, Any]]:
    """Order `points` by the seed alone."""
    return sorted(points, key=lambda p: hashlib.sha256(f"{seed}/{sorted(p.items())}".encode()).digest())
