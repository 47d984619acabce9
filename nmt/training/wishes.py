"""When the workers of a training ask each other if one wants to save or stop."""

from __future__ import annotations

import time
from collections.abc import Callable

from nmt import distributed

ASK_STEPS = 10
"""most steps between two questions: each makes every worker wait for the slowest"""
ASK_SECONDS = 1.0
"""time between two questions where steps are slow: a machine may be taken away half a minute after its notice"""


class Wishes:
    """Asks all ranks for their wishes at the same steps of an epoch. A single worker is asked at every step.

    Args:
        last: the last step of the epoch, which always asks: an evaluation would be a long wait.
    """

    def __init__(self, *, last: int) -> None:
        self._last, self._next = last, 1
        self._asked: tuple[int, float] | None = None
        """step and time of the last question"""

    def agreed(self, step: int, wishes: Callable[[], tuple[int, ...]]) -> tuple[int, ...] | None:
        """Return the largest of each wish over the ranks; None where this step asks nobody. Every rank calls it.

        Args:
            step: the step that has ended, 1 = the first of the epoch.
            wishes: makes this rank's wishes; called only if they are asked for.
        """
        if distributed.world_size() == 1:
            return wishes()
        if step < self._next and step < self._last:
            return None
        now = time.monotonic()
        step_seconds = (now - self._asked[1]) / (step - self._asked[0]) if self._asked else ASK_SECONDS
        *found, microseconds = distributed.largest(*wishes(), int(step_seconds * 1e6))
        self._asked = step, now
        # All ranks use the time of the slowest, so they ask at the same step again.
        self._next = step + min(ASK_STEPS, max(1, int(ASK_SECONDS * 1e6) // max(1, microseconds)))
        return tuple(found)
