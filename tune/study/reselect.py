"""Train the best configurations again, each with a fresh seed, before a search names its winner. Imports no Ray.

The highest of many values is high by luck too. So with `[search] reselect` the last trials of a search repeat the
best configurations in full, with a seed that no trial had. The winner is the one with the best mean
(tune.results.summary). A repeat is a trial of the study like any other, with its seed as an attribute. No sampler, rung
or limit of the search counts it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from nmt.config import Config, with_overrides
from tune.spaces.space import Space
from tune.study.halving import NextJob, Pause, Standing

SEED = "seed"
"""user attribute of a repeat: the seed that it trains with"""
APART = 1_000_003
"""difference of the fresh seed from that of the search, so that --confirm, which counts up from there, uses others"""


def fresh_seed(space: Space) -> int:
    """Return the seed of all repeats of a search. They are paired, for they train on the same pairs."""
    return int((space.base.train.seed + APART) % 2**31)


def is_repeat(trial: FrozenTrial) -> bool:
    """True if the trial repeats the configuration of an earlier one."""
    return SEED in trial.user_attrs


def with_seed_of(trial: FrozenTrial, config: Config) -> Config:
    """Return the configuration with the seed that the trial trains with."""
    if not is_repeat(trial):
        return config
    return with_overrides(config, {"train.seed": trial.user_attrs[SEED]}, source="[search] reselect")


def reserved_epochs(space: Space, trials: Sequence[FrozenTrial]) -> int:
    """Return the epochs of `[search] epochs` that are no longer there to search with.

    They are kept for repeats, or were spent on repeats before the limit was raised.
    """
    spent = sum(len(t.intermediate_values) for t in trials if is_repeat(t))
    return space.search.reselect * space.base.train.epochs + spent


def searched(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Return the trials that repeat no other."""
    return [t for t in trials if not is_repeat(t)]


def next_repeat(
    space: Space, trials: Sequence[FrozenTrial], standings: Sequence[Standing]
) -> tuple[NextJob | Pause, FrozenTrial | None]:
    """Decide what to run once nothing is left to search.

    Args:
        trials, standings: of the whole search, by number.

    Returns:
        The rest of an interrupted repeat; or a new repeat, with the trial that it repeats; or why no job comes now.
    """
    epochs = space.base.train.epochs
    for trial, progress in zip(trials, standings, strict=True):
        idle = not (progress.running or progress.ended or progress.aside)
        if is_repeat(trial) and idle and progress.epoch < epochs:
            return NextJob(trial.number, epochs), None
    repeated = [t.params for t in trials if is_repeat(t)]
    for trial in best_trials(trials, space.search.reselect):
        if trial.params not in repeated:
            return NextJob(len(trials), epochs), trial
    return Pause.WAIT if any(s.running for s in standings) else Pause.FINISHED, None


def best_trials(trials: Sequence[FrozenTrial], count: int) -> list[FrozenTrial]:
    """Return the `count` searched trials with the highest values, best first, no configuration twice."""
    judged = [t for t in searched(trials) if t.intermediate_values and t.state != TrialState.FAIL]
    best: list[FrozenTrial] = []
    for trial in sorted(judged, key=lambda t: (-max(t.intermediate_values.values()), t.number)):
        if all(trial.params != other.params for other in best):
            best.append(trial)
    return best[:count]


def like(space: Space, config: Config, searched: Config) -> Config:
    """Return the configuration `searched` with the fresh seed if `config`, as a trial's folder has it, has that."""
    return with_overrides(searched, {f"train.{k}": v for k, v in attributes(space, config).items()}, source="reselect")


def attributes(space: Space, config: Config) -> dict[str, Any]:
    """Return the attributes that a trial with this configuration has as a repeat; none if it is no repeat."""
    seed = fresh_seed(space)
    return {SEED: seed} if config.train.seed == seed else {}
