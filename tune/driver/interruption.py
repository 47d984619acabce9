"""TODO docstring of tune.driver.interruption."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import ray
import ray.tune


class Interruption(ray.tune.Stopper):
    """Ctrl-C, SIGTERM, or a reason of the search's own: the search ends, to be resumed; a second signal acts at once.

    Args:
        flag: which trials look at between their steps.
        say: takes each line for the user.
    """

    def __init__(self, flag: Any, say: Callable[[str], None]) -> None:
        self._flag, self._say = flag, say
        self._told = False
        self.came = False
        self.reason: str | None = None
        """why the search stopped itself"""

    @contextlib.contextmanager
    def caught(self) -> Iterator[Interruption]:
        """While this is open; in the main thread, for others have no signals."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _note(self, number: int, frame: Any) -> None:
        if self.came:
            raise KeyboardInterrupt
        self.came = True
        self._say("interrupted: the trials write their checkpoints, some seconds; again: at once")

    def stop(self, reason: str) -> None:
        """End the search for this reason."""
        self.came, self.reason = True, reason

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        """Asked by Ray Tune at each of its steps."""
        if self.came and not self._told:
            self._told = True
            self._flag.raise_it.remote()
        return False  # the trials end themselves, and no other starts
