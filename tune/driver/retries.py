"""Count the interruptions of each trial's jobs, and decide which trials are tried again in this run of the search."""

from __future__ import annotations

import collections

from tune.jobs.causes import kind_of

FAILURES = 2
"""a trial that is interrupted so often without an epoch in between waits for the next run of the search"""
FREE = 5
"""interruptions of a trial that are no fault of its jobs, and not counted: they had not begun, or lost their node"""


class Retries:
    """The interruptions of one run of a search."""

    def __init__(self) -> None:
        self.waiting: dict[int, str] = {}
        """trial that waits for the next run -> why"""
        self._failures: dict[int, tuple[int, int]] = {}
        """trial -> its interruptions in a row, and the last epoch at the time"""
        self._free: collections.Counter[int] = collections.Counter()
        self._default_again = False

    def interrupted(self, number: int, reason: str, *, epoch: int, counted: bool) -> bool:
        """Record that a job of the trial was interrupted; return True if the trial is tried again in this run.

        Args:
            epoch: the last epoch that the trial has completed.
            counted: False if that was no fault of the job itself.
        """
        if not counted and self._free[number] < FREE:  # bounded, or a node that starts no process were tried for ever
            self._free[number] += 1
            return True
        count, before = self._failures.get(number, (0, epoch))
        count = count + 1 if epoch == before else 1
        self._failures[number] = (count, epoch)
        if count < FAILURES:
            return True
        self.waiting[number] = reason
        return False

    def again(self) -> list[int]:
        """Return the trials to take up once more now that a job has ended well: the default, once.

        A search without its default configuration has no yardstick.
        """
        if self._default_again or 0 not in self.waiting:
            return []
        self._default_again = True
        del self.waiting[0]
        return [0]

    def in_words(self) -> str:
        """Describe in one line the trials that wait."""
        reasons = list(self.waiting.values())
        kinds = [kind_of(reason) for reason in reasons]
        common = max(kinds, key=kinds.count)
        count = f"{len(kinds)} trial{'s were' if len(kinds) > 1 else ' was'} interrupted"
        others = f", {kinds.count(common)} of them" if kinds.count(common) < len(kinds) else ""
        return f"{count}{others} by: {reasons[kinds.index(common)]}"
