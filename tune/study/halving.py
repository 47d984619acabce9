"""Which job of a search comes next: successive halving that promotes, decided from plain numbers alone.

A job trains one trial from its checkpoint up to an epoch, `until`. With promotion (ASHA, Li et al. 2018, arXiv
1810.05934) every trial's first job ends at the first rung; there the trial waits, at no cost, until it is among the
best 1/`factor` of those that reached the rung, and then a further job takes it to the next. A wrong early decision is
so mended by what comes later, which stopping cannot do. Trial 0 is the yardstick: one job over the full budget.

No Ray, no Optuna, no clock: `--resume` and a replay without processes decide as the search did.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum


class Pause(Enum):
    """Why no job comes now."""

    WAIT = "a job under way must end first"
    FINISHED = "nothing is left to do"


@dataclass(frozen=True)
class NextJob:
    """Train trial `number` from where it is to the end of epoch `until`; a trial not there yet is a new one."""

    number: int
    until: int


@dataclass(frozen=True, kw_only=True)
class Standing:
    """Where a trial stands."""

    number: int
    values: Mapping[int, float]
    """epoch -> value, the higher the better"""
    until: int
    """where its last job ends, or ended"""
    running: bool = False
    """that job is under way"""
    ended: bool = False
    """nothing more comes: it is complete, pruned or failed"""
    failed: bool = False

    @property
    def epoch(self) -> int:
        return max(self.values, default=0)


@dataclass(frozen=True, kw_only=True)
class Ladder:
    """The rungs: `grace`, `grace` x `factor`, ... below `epochs`, and `epochs`. `grace` = `epochs`: no early end.

    With `brackets` (Hyperband, Li et al. 2018, JMLR 18(185)) some trials begin at a higher rung, in case the order
    at the lowest misleads: bracket b leaves the lowest b rungs out. Its share of the trials is Hyperband's, and the
    number of a trial decides its bracket.
    """

    epochs: int
    grace: int
    factor: int
    brackets: bool = False

    @property
    def rungs(self) -> tuple[int, ...]:
        """Every epoch at which trials are compared; the last is the full budget."""
        below, epoch = [], self.grace
        while epoch < self.epochs:
            below.append(epoch)
            epoch *= self.factor
        return (*below, self.epochs)

    def bracket(self, number: int) -> int:
        """The bracket of a trial: 0 begins at the lowest rung."""
        if not self.brackets:
            return 0
        mixed = _mixed(self.shares())
        return mixed[number % len(mixed)]

    def shares(self) -> tuple[int, ...]:
        """How many of the trials of a round begin in each bracket: of equal cost, as in Hyperband."""
        count = len(self.rungs)
        return tuple(math.ceil(count * self.factor**s / (s + 1)) for s in range(count - 1, -1, -1))

    def steps(self, number: int) -> tuple[int, ...]:
        """Where the jobs of trial `number` end, one after the other."""
        return (self.epochs,) if number == 0 else self.rungs[self.bracket(number) :]


@functools.cache
def _mixed(shares: tuple[int, ...]) -> tuple[int, ...]:
    """Each index as often as its share, evenly mixed from the start: next comes who is farthest behind."""
    given = [0] * len(shares)
    order = []
    for _ in range(sum(shares)):
        turn = min(range(len(shares)), key=lambda b: ((given[b] + 1) / shares[b], b))
        given[turn] += 1
        order.append(turn)
    return tuple(order)


def next_job(
    trials: Sequence[Standing], ladder: Ladder, *, may_start: bool = True, epochs_left: float = math.inf
) -> NextJob | Pause:
    """What to run now.

    In this order: a job that was interrupted; the promotion at the highest rung that has one to give; a new trial;
    else wait for what is under way. When all that is done and no trial but the default has reached the full budget
    (a rung of fewer than `factor` trials promotes nobody), the best one goes on, rung by rung.

    Args:
        trials: all that exist.
        may_start: whether the budget has room for a new trial.
        epochs_left: what may still be trained, beside the jobs under way; no job begins that would exceed it.
    """

    rivals = [t.until for t in trials if t.number and not t.failed and not (t.ended and t.epoch < ladder.epochs)]

    def affordable(job: NextJob, epoch: int) -> bool:
        # Enough must be left for one trial beside the default to reach the full budget, or nothing could be compared.
        farthest = max([*rivals, job.until]) if job.number else ladder.epochs
        return job.until - epoch + ladder.epochs - farthest <= epochs_left

    for trial in sorted(trials, key=lambda t: t.number):
        if not trial.running and not trial.ended and trial.epoch < trial.until:
            job = NextJob(trial.number, trial.until)
            if affordable(job, trial.epoch):
                return job
    for job, epoch in promotions(trials, ladder):
        if affordable(job, epoch):
            return job
    number = len(trials)
    new = NextJob(number, ladder.steps(number)[0])
    if may_start and affordable(new, 0):
        return new
    if any(t.running for t in trials):
        return Pause.WAIT
    last = last_promotion(trials, ladder)
    return last[0] if last is not None and affordable(*last) else Pause.FINISHED


def promotions(trials: Sequence[Standing], ladder: Ladder) -> Iterator[tuple[NextJob, int]]:
    """Every promotion that is due, with the epoch it starts from: the highest rung first, there the best first."""
    due = []
    for bracket in range(len(ladder.rungs) if ladder.brackets else 1):
        rungs = ladder.rungs[bracket:]
        for rung, following in itertools.pairwise(rungs):
            reached = [t for t in trials if rung in t.values and (t.number == 0 or ladder.bracket(t.number) == bracket)]
            best = sorted(reached, key=lambda t: (-rung_value(t, rung), t.number))[: len(reached) // ladder.factor]
            due += [(rung, t, following) for t in best if _waits_at(t, rung)]
    due.sort(key=lambda d: (-d[0], -rung_value(d[1], d[0]), d[1].number))
    return ((NextJob(trial.number, following), rung) for rung, trial, following in due)


def last_promotion(trials: Sequence[Standing], ladder: Ladder) -> tuple[NextJob, int] | None:
    """So that the default configuration meets a rival at the full budget: the best of the highest rung goes on."""
    if any(t.number and ladder.epochs in t.values and not t.failed for t in trials):
        return None
    waiting = [t for t in trials if not t.ended and not t.running and t.epoch == t.until < ladder.epochs]
    if not waiting:
        return None
    best = max(waiting, key=lambda t: (t.until, t.values[t.until], -t.number))
    steps = ladder.steps(best.number)
    return NextJob(best.number, steps[steps.index(best.until) + 1]), best.until


def rung_value(trial: Standing, rung: int) -> float:
    """The value by which a trial is compared at a rung: a failed one is the worst, whatever it was there."""
    value = trial.values[rung]
    return value if math.isfinite(value) and not trial.failed else -math.inf


def _waits_at(trial: Standing, rung: int) -> bool:
    idle = not trial.running and not trial.ended and not trial.failed
    return idle and trial.until == rung and math.isfinite(trial.values[rung])
