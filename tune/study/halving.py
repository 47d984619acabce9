"""Decide which job of a search comes next: successive halving that promotes, on plain numbers alone.

A job trains one trial from its checkpoint up to an epoch, `until`. With promotion (ASHA, Li et al. 2018, arXiv
1810.05934) the first job of every trial ends at the first rung. There the trial pauses, at no cost, until it ranks
among the best 1/`factor` of those that reached the rung. A further job then takes it to the next rung. So later trials
can correct a wrong early decision, which stopping cannot do. Trial 0 is the yardstick: one job over the full budget.

No Ray, no Optuna, no clock: `--resume`, and a replay without processes, decide as the search did.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum


class Pause(Enum):
    """Reason why no job comes now."""

    WAIT = "a running job must end first"
    FINISHED = "nothing is left to do"


@dataclass(frozen=True)
class NextJob:
    """Train trial `number` to the end of epoch `until`, from where it is; an unknown number is a new trial."""

    number: int
    until: int


@dataclass(frozen=True, kw_only=True)
class Standing:
    """Progress of one trial."""

    number: int
    values: Mapping[int, float]
    """epoch -> value; higher is better"""
    until: int
    """epoch at which its last job ends, or ended"""
    running: bool = False
    """True while that job runs"""
    ended: bool = False
    """True if it is complete, pruned or failed"""
    failed: bool = False
    aside: bool = False
    """True if it was interrupted and waits for the next run of the search"""

    @functools.cached_property
    def epoch(self) -> int:
        """Last epoch that has a value; 0 before the first."""
        return max(self.values, default=0)


@dataclass(frozen=True, kw_only=True)
class Ladder:
    """The rungs of a search: `grace`, `grace` x `factor`, ... below `epochs`, then `epochs` itself.

    `grace` = `epochs` means no early end. With `brackets` (Hyperband, Li et al. 2018, JMLR 18(185)) some trials begin
    at a higher rung, in case the order at the lowest misleads: bracket b leaves out the lowest b rungs. The brackets
    share the trials as in Hyperband, and the number of a trial decides its bracket.
    """

    epochs: int
    grace: int
    factor: int
    brackets: bool = False

    @functools.cached_property
    def rungs(self) -> tuple[int, ...]:
        """Every epoch at which trials are compared; the last is the full budget."""
        below, epoch = [], self.grace
        while epoch < self.epochs:
            below.append(epoch)
            epoch *= self.factor
        return (*below, self.epochs)

    def bracket(self, number: int) -> int:
        """Return the bracket of a trial; 0 begins at the lowest rung."""
        if not self.brackets:
            return 0
        mixed = _mixed(self.shares())
        return mixed[number % len(mixed)]

    def shares(self) -> tuple[int, ...]:
        """Count the trials of a round that begin in each bracket: all brackets cost the same, as in Hyperband."""
        count = len(self.rungs)
        return tuple(math.ceil(count * self.factor**s / (s + 1)) for s in range(count - 1, -1, -1))

    def steps(self, number: int) -> tuple[int, ...]:
        """Return the epochs at which the jobs of trial `number` end, one after the other."""
        return (self.epochs,) if number == 0 else self.rungs[self.bracket(number) :]


@functools.cache
def _mixed(shares: tuple[int, ...]) -> tuple[int, ...]:
    """Return each index as often as its share, evenly mixed: the one farthest behind comes next."""
    given = [0] * len(shares)
    order = []
    for _ in range(sum(shares)):
        turn = min(range(len(shares)), key=lambda b: ((given[b] + 1) / shares[b], b))
        given[turn] += 1
        order.append(turn)
    return tuple(order)


def next_job(
    trials: Sequence[Standing],
    ladder: Ladder,
    *,
    number: int | None = None,
    may_start: bool = True,
    epochs_left: float = math.inf,
) -> NextJob | Pause:
    """Decide what to run now.

    The order is: a job that was interrupted; a promotion at the highest rung that has one to give; a new trial; else
    wait for running jobs. When all that is done, the default may be the only trial with the full budget, because a rung
    of fewer than `factor` trials promotes none. Then the best other trial continues, rung by rung.

    Args:
        trials: all that exist.
        number: number of a new trial; by default the next one.
        may_start: True if the budget has room for a new trial.
        epochs_left: epochs that may still be trained, besides those of running jobs; no job begins that would exceed
            it.
    """

    rivals = [t.until for t in trials if t.number and not t.failed and not (t.ended and t.epoch < ladder.epochs)]

    def affordable(job: NextJob, epoch: int) -> bool:
        # Enough must be left for one trial beside the default to reach the full budget, or nothing could be compared.
        farthest = max([*rivals, job.until]) if job.number else ladder.epochs
        return job.until - epoch + ladder.epochs - farthest <= epochs_left

    for trial in sorted(trials, key=lambda t: t.number):
        if not trial.running and not trial.ended and not trial.aside and trial.epoch < trial.until:
            job = NextJob(trial.number, trial.until)
            if affordable(job, trial.epoch):
                return job
    for job, epoch in promotions(trials, ladder):
        if affordable(job, epoch):
            return job
    number = len(trials) if number is None else number
    new = NextJob(number, ladder.steps(number)[0])
    if may_start and affordable(new, 0):
        return new
    if any(t.running for t in trials):
        return Pause.WAIT
    last = last_promotion(trials, ladder)
    return last[0] if last is not None and affordable(*last) else Pause.FINISHED


def promotions(trials: Sequence[Standing], ladder: Ladder) -> Iterator[tuple[NextJob, int]]:
    """List every promotion that is due, with the epoch it starts from: highest rung first, best trial first."""
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
    """Promote the best trial of the highest rung, so that the default meets a rival at the full budget."""
    if any(t.number and ladder.epochs in t.values and not t.failed for t in trials):
        return None
    waiting = [
        t for t in trials if not t.ended and not t.running and not t.aside and t.epoch == t.until < ladder.epochs
    ]
    if not waiting:
        return None
    best = max(waiting, key=lambda t: (t.until, t.values[t.until], -t.number))
    steps = ladder.steps(best.number)
    return NextJob(best.number, steps[steps.index(best.until) + 1]), best.until


def rung_value(trial: Standing, rung: int) -> float:
    """Return the value that a trial is compared by at a rung; a failed trial is the worst, whatever it was."""
    value = trial.values[rung]
    return value if math.isfinite(value) and not trial.failed else -math.inf


def _waits_at(trial: Standing, rung: int) -> bool:
    idle = not trial.running and not trial.ended and not trial.failed and not trial.aside
    return idle and trial.until == rung and math.isfinite(trial.values[rung])
