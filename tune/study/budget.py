"""Decide when a search is over: any limit of `[search]` ends it. Works on plain numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tune.spaces.settings import SearchSettings, limits_in_words
from tune.study.halving import Ladder, Standing


def may_start(search: SearchSettings, trials: Sequence[Standing], ladder: Ladder) -> bool:
    """True if a new configuration may begin: trials are left, and one of the last `patience` was an improvement."""
    enough = bool(search.trials) and len(trials) >= search.trials
    return not enough and not (search.patience and stale(trials, ladder) >= search.patience)


def epochs_left(search: SearchSettings, trials: Sequence[Standing], *, reserved: int = 0) -> float:
    """Return the epochs that may still be trained, besides those of running jobs and `reserved` ones."""
    if not search.epochs:
        return math.inf
    promised = sum(t.until - t.epoch for t in trials if t.running)
    return search.epochs - reserved - sum(len(t.values) for t in trials) - promised


def stale(trials: Sequence[Standing], ladder: Ladder) -> int:
    """Count the trials judged since the best one, at the lowest rung: there all trials compare at any time."""
    rung = ladder.rungs[0]
    judged = [t for t in trials if rung in t.values or t.ended]
    best = max(judged, key=lambda t: (t.values.get(rung, -math.inf), -t.number), default=None)
    return sum(t.number > best.number for t in judged) if best is not None else 0


def out_of_time(search: SearchSettings, *, seconds: float, gpu_seconds: float) -> bool:
    """True once the time budget is spent: start no job, and stop running ones at the end of their epoch."""
    late = bool(search.hours) and seconds >= 3600 * search.hours
    return late or (bool(search.gpu_hours) and gpu_seconds >= 3600 * search.gpu_hours)


def most_epochs(search: SearchSettings, epochs: int) -> float:
    """Return the most epochs that a search can train; infinite if only time or patience ends it."""
    return min((search.trials + search.reselect) * epochs if search.trials else math.inf, search.epochs or math.inf)


def usual_epochs(trials: int, ladder: Ladder) -> int:
    """Return the epochs that halving trains of so many trials if each rung promotes exactly its best 1/`factor`."""
    total = ladder.epochs
    for bracket in range(len(ladder.rungs) if ladder.brackets else 1):
        left = sum(ladder.bracket(number) == bracket for number in range(1, trials))
        before = 0
        for rung in ladder.rungs[bracket:]:
            total += left * (rung - before)
            before, left = rung, left // ladder.factor
    return total


def plan(search: SearchSettings, ladder: Ladder) -> str:
    """Describe in one line what a search is about to train."""
    most = most_epochs(search, ladder.epochs)
    rungs = ", ".join(map(str, ladder.rungs[:-1]))
    compared = f"compared after {rungs} of {ladder.epochs} epochs" if rungs else f"{ladder.epochs} epochs each"
    usual = f"about {usual_epochs(search.trials, ladder)} epochs, " if search.trials and rungs else ""
    at_most = f"at most {most:g} epochs" if math.isfinite(most) else "as many epochs as fit"
    again = f"; then the best {search.reselect} once more, with a fresh seed" if search.reselect else ""
    return f"until {limits_in_words(vars(search))}; {compared}; {usual}{at_most}{again}"
