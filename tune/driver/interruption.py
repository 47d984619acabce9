"""Interrupt a search: by Ctrl-C, SIGTERM, a closed terminal, or for a reason of its own."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import ray
import ray.tune

from nmt.training.signals import interruptions
from tune.jobs.control import POLL_SECONDS

SILENT_SECONDS = 15.0
"""time after which an actor that does not answer counts as frozen"""


class Interruption(ray.tune.Stopper):
    """End the search so that it can be resumed: running trials save and end, and no other starts.

    Args:
        control: the actor that trials ask between their steps.
    """

    def __init__(self, control: Any) -> None:
        self._control = control
        self._sent = 0.0
        self._answers: dict[Any, float] = {}
        """requests without an answer, and when they were sent"""
        self.came = False
        self.reason: str | None = None
        """reason why the search stopped itself"""

    @contextlib.contextmanager
    def caught(self) -> Iterator[Interruption]:
        """Treat Ctrl-C, SIGTERM and a closed terminal as a request to end the search, while this is open."""
        with interruptions(self._interrupt):
            yield self

    def _interrupt(self) -> None:
        self.came = True

    def stop(self, reason: str) -> None:
        """Request the end of the search for this reason."""
        self.came, self.reason = True, reason

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        """Forward the request to the trials. Ray Tune calls this at each of its steps."""
        if self.came and time.monotonic() - self._sent > POLL_SECONDS:  # repeated because a restarted actor forgets it
            self._sent = time.monotonic()
            self._replace_if_silent()
            self._answers[self._control.stop_all.remote()] = self._sent
        return False  # Ray would end the trials at once; they must save first

    def _replace_if_silent(self) -> None:
        """Let Ray restart an actor that has not answered for long. One that is dead answers with an error."""
        if self._answers:
            _, silent = ray.wait(list(self._answers), num_returns=len(self._answers), timeout=0)
            self._answers = {answer: self._answers[answer] for answer in silent}
        if any(self._sent - since > SILENT_SECONDS for since in self._answers.values()):
            self._answers.clear()
            ray.kill(self._control, no_restart=False)
