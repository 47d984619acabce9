"""What a search, confirmation or ablation has done so far, as its live view shows it: one row per training.

The process that runs the search notes what it learns here; the view reads it (tune.results.live). Nothing is read from
a disk, and nothing waits.
"""

from __future__ import annotations

import dataclasses
import math
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nmt.training.history import FIXED_METRIC, METRIC

RUNNING, WAITING, PAUSED = "running", "waits", "paused"
ENDED = {"COMPLETE": "complete", "PRUNED": "stopped", "FAIL": "failed"}
"""state of a trial in the study -> its word"""
EVENTS = 3
"""last events that the view repeats below the table"""


@dataclass
class Row:
    """One training."""

    name: str
    state: str = RUNNING
    epoch: int = 0
    until: int = 0
    """epoch at which its job ends: its next rung"""
    value: float | None = None
    best: float | None = None
    fixed: float | None = None
    """best accuracy at the configuration's own decoding"""
    why: str = ""
    """what it waits for, or why it ended early"""

    @property
    def active(self) -> bool:
        """True while it has a job, which runs or waits for resources."""
        return self.state in (RUNNING, WAITING)

    def learn(self, metrics: Mapping[str, Any]) -> None:
        """Take over the metrics of an epoch."""
        self.epoch, self.value = metrics["epoch"], metrics.get(METRIC)
        self.best = _larger(self.best, self.value)
        self.fixed = _larger(self.fixed, metrics.get(FIXED_METRIC, self.value))


@dataclass(frozen=True, kw_only=True)
class Goal:
    """What the search is to do, as far as it is known."""

    title: str
    limit: str
    """what ends it, in words"""
    noun: str = "trials"
    trainings: int = 0
    """0 if another limit ends it"""
    full: int
    """epochs of a training at full budget"""
    epochs: float
    """epochs of all trainings, as many as are usual; infinite if they are not known"""
    at_most: bool = False
    """True if `epochs` is an upper bound"""
    seconds: float = math.inf
    """limit of its time"""
    reference: str = "000"
    """name of the training that the best is compared with; empty if they are not compared before the end"""


class Board:
    """The rows of one search, and its estimates. May be read and written by several threads.

    Args:
        seconds: returns the time that the search has taken, over all its runs.
    """

    def __init__(self, goal: Goal, *, seconds: Callable[[], float]) -> None:
        self.goal, self.seconds = goal, seconds
        self._rows: dict[str, Row] = {}
        self._events: deque[str] = deque(maxlen=EVENTS)
        self._lock = threading.RLock()  # a signal's handler may note something while the main thread does
        self._started, self._trained = time.monotonic(), 0

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the lock: Ray Tune pickles its callbacks, which hold a board."""
        return {name: value for name, value in self.__dict__.items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.RLock())

    def know(self, name: str, history: Sequence[Mapping[str, Any]], state: str) -> None:
        """Add what an earlier run has trained."""
        with self._lock:
            row = self._rows[name] = Row(name, state)
            for metrics in history:
                row.learn(metrics)
            row.until = row.epoch

    def begin(self, name: str, until: int, *, state: str = RUNNING) -> None:
        """Note that a training has a job, which ends at epoch `until`."""
        with self._lock:
            row = self._rows.setdefault(name, Row(name))
            row.state, row.until, row.why = state, until, ""

    def learn(self, name: str, metrics: Mapping[str, Any]) -> None:
        """Note the metrics of an epoch."""
        with self._lock:
            row = self._rows.setdefault(name, Row(name))
            self._trained += max(0, metrics["epoch"] - row.epoch)
            row.learn(metrics)
            if row.state not in ENDED.values():  # the last epoch may be heard of after the end
                row.state, row.why, row.until = RUNNING, "", max(row.until, row.epoch)

    def set_state(self, name: str, state: str, why: str = "") -> None:
        """Note that a training waits, has paused or has ended."""
        with self._lock:
            row = self._rows.setdefault(name, Row(name))
            row.state, row.why = state, why

    def event(self, text: str) -> None:
        """Repeat a line below the table until there are newer ones."""
        with self._lock:
            self._events.append(text)

    @property
    def events(self) -> list[str]:
        """The last events, the oldest first."""
        with self._lock:
            return list(self._events)

    def rows(self, most: int) -> list[Row]:
        """Return copies of the rows to show: those with a job first, then the best."""
        with self._lock:
            rows = [dataclasses.replace(row) for row in self._rows.values()]
        rows.sort(key=lambda row: (not row.active, 0.0 if row.active else -(row.best or -1.0), row.name))
        return rows[:most]

    def counts(self) -> Counter[str]:
        """Count the trainings in each state."""
        with self._lock:
            return Counter(row.state for row in self._rows.values())

    def epochs(self) -> int:
        """Return the epochs that were trained, over all runs."""
        with self._lock:
            return sum(row.epoch for row in self._rows.values())

    def expected(self) -> float:
        """Return the epochs of all trainings: the usual number, or what the running jobs lead to if that is more."""
        with self._lock:
            promised = sum(max(row.until, row.epoch) if row.active else row.epoch for row in self._rows.values())
        return max(self.goal.epochs, promised)

    def best(self) -> Row | None:
        """Return the training with the highest accuracy so far."""
        with self._lock:
            found = [row for row in self._rows.values() if row.best is not None]
        return max(found, key=lambda row: row.best or 0.0, default=None)

    def reference(self) -> float | None:
        """Return the accuracy so far that the best is compared with: of the default, at its own decoding."""
        with self._lock:
            row = self._rows.get(self.goal.reference)
            return row.fixed if row is not None else None

    def left(self) -> float | None:
        """Estimate the seconds that are left from the epochs of this run; None while nothing is known."""
        with self._lock:
            trained, passed = self._trained, time.monotonic() - self._started
        seconds = self.goal.seconds - self.seconds()
        if trained and math.isfinite(self.goal.epochs):
            seconds = min(seconds, (self.expected() - self.epochs()) * passed / trained)
        return max(seconds, 0.0) if math.isfinite(seconds) else None


def _larger(a: float | None, b: float | None) -> float | None:
    """Return the larger of two accuracies, of which either may be unknown."""
    return max((value for value in (a, b) if value is not None and math.isfinite(value)), default=None)
