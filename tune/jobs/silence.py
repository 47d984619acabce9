"""How long a job may be silent: limits that follow from the epochs that were measured.

Ray notices a process that dies, but not one that is only silent. Times are seconds of one clock.
"""

from __future__ import annotations

import statistics
from collections.abc import Collection
from dataclasses import dataclass, field

FACTOR, LEAST_SECONDS = 10.0, 300.0
"""an epoch may take FACTOR times the median of its trial's epochs, and at least LEAST_SECONDS"""
START_SECONDS = 900.0
"""least limit of the first report of a job, which has a process to start and data to copy to its node"""


@dataclass
class Silence:
    """The time that a job may be silent."""

    first_seconds: float
    """limit of the first report of a job"""
    least: float | None = None
    """least limit of the others; None for LEAST_SECONDS"""
    heard: float = 0.0
    """time of the last report or sign of life"""
    epochs: list[float] = field(default_factory=list)
    """seconds of each epoch of the trial"""
    _reported: bool = False
    _signs: bool = False
    _last: tuple[int, float] = (0, 0.0)

    def begin(self, now: float) -> None:
        """Record the start of a job of the trial."""
        self.heard, self._reported, self._signs = now, False, False

    def know(self, epoch: int, seconds: float) -> bool:
        """Measure the epochs since the last call; return True if there are any.

        Args:
            epoch: the last epoch of the trial.
            seconds: training time of the trial so far.
        """
        before, earlier = self._last
        if epoch > before:
            self.epochs.append((seconds - earlier) / (epoch - before))
            self._last = (epoch, seconds)
        return bool(epoch > before)

    def report(self, epoch: int, seconds: float, now: float) -> bool:
        """Record a report of the job; return True if it is of a new epoch. Arguments as `know`."""
        self.heard, self._reported = now, True
        return self.know(epoch, seconds)

    def sign(self, now: float) -> None:
        """Record a sign of life of a job that gives one every few seconds: it waits, or its workers train."""
        if now > self.heard:  # not of an earlier job
            self.heard, self._signs = now, True

    def reason(self, now: float) -> str | None:
        """Return why the job is taken to hang; None if it is within its limit."""
        silent, limit = now - self.heard, self._limit()
        if silent <= limit:
            return None
        known = f"its epochs take {statistics.median(self.epochs):.1f} s" if self.epochs else "it has reported none"
        return f"no report for {silent:.0f} s, over the limit of {limit:.0f} s ({known})"

    def _limit(self) -> float:
        least = LEAST_SECONDS if self.least is None else self.least
        if self._signs:
            return least
        usual = FACTOR * statistics.median(self.epochs) if self.epochs else 0.0
        return max(least if self._reported else self.first_seconds, usual)


def first_report(medians: Collection[float], *, most: float) -> float:
    """Return the limit of the first report of a job, from the median epoch of each trial of its search.

    Args:
        medians: seconds; empty where nothing has been measured.
        most: the limit then, which no other limit exceeds.
    """
    return min(most, max(START_SECONDS, FACTOR * statistics.median(medians))) if medians else most
