"""Follow what a search's jobs wait for, and what its groups of workers do.

A Ray Tune callback beside the watchdog. A group tells the control actor that it lives or waits (tune.jobs.control). Its
time to wait does not count, and the user sees what it waits for. Resources whose training has no job are released: the
process that held them was killed.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ray
import ray.exceptions
import ray.tune
from ray.tune.experiment.trial import Trial

from tune.driver.watchdog import Watchdog
from tune.jobs.control import FORGET_SECONDS, Sign, restart
from tune.jobs.reservations import release_others, training_of
from tune.jobs.waiting import Wait
from tune.results.layout import trial_folder, trial_id
from tune.spaces.settings import Resources

POLL_SECONDS = 2.0
"""time between two questions to the control actor"""
QUIET_SECONDS = 30.0
"""time that the process of a trial may take to start before a line says that it waits"""
KEEP_SECONDS = 60.0
"""time after which resources of a training without a job are released; a job that ends releases them itself"""


class Groups(ray.tune.Callback):
    """What the jobs of one search wait for.

    Args:
        directory: of the search.
        control: the control actor; if it does not answer, its process is replaced.
        health: hears of the signs of life.
        note: prints a line about a trial.
    """

    def __init__(
        self, resources: Resources, directory: Path, *, control: Any, health: Watchdog, note: Callable[[int, str], None]
    ) -> None:
        self._resources, self._directory = resources, directory
        self._control, self._health, self._note = control, health, note
        self._question: Any = None
        self._asked = 0.0
        self._looked = self._released = time.monotonic()
        self._pending: dict[str, Wait] = {}
        self._told: dict[int, str] = {}
        self._ran: dict[str, float] = {}
        """training -> when it last had a job"""

    def on_step_end(self, iteration: int, trials: Sequence[Any], **info: Any) -> None:
        """Look every few seconds. Ray Tune calls this several times a second."""
        now = time.monotonic()
        if now - self._looked < POLL_SECONDS:
            return
        self._looked = now
        self._follow_pending([trial for trial in trials if trial.status == Trial.PENDING])
        signs, running = self._answer(now), [t.config["number"] for t in trials if t.status == Trial.RUNNING]
        for number in running:
            if (sign := signs.get(trial_id(number))) is not None:
                self._hear(number, sign)
        if self._resources.workers > 1:
            self._release(running, now)

    def _follow_pending(self, pending: Sequence[Any]) -> None:
        """Tell of jobs whose process cannot start. They have no clock yet."""
        before = self._pending
        self._pending = {
            t.trial_id: before.get(t.trial_id) or Wait(1, self._resources, quiet=QUIET_SECONDS) for t in pending
        }
        for trial in pending:
            if (news := self._pending[trial.trial_id].news()) is not None:
                self._note(trial.config["number"], news)

    def _answer(self, now: float) -> dict[str, Sign]:
        """Return the control actor's answer to the last question, and ask the next; {} if it has not answered yet."""
        signs: dict[str, Sign] = {}
        if self._question is not None:
            if ray.wait([self._question], timeout=0)[0]:
                with contextlib.suppress(ray.exceptions.RayActorError):  # Ray starts it again
                    signs = ray.get(self._question)
                self._question = None
            elif now - self._asked > FORGET_SECONDS:
                restart(self._control)
                self._question = None
        if self._question is None:
            self._question, self._asked = self._control.signs.remote(self._health.first_seconds), now
        return signs

    def _hear(self, number: int, sign: Sign) -> None:
        self._health.sign(number, sign.ago)
        if sign.waits is not None and sign.waits != self._told.get(number):
            self._told[number] = sign.waits
            self._note(number, sign.waits)

    def _release(self, running: Sequence[int], now: float) -> None:
        self._ran |= {training_of(self._directory / trial_folder(number)): now for number in running}
        if now - self._released > KEEP_SECONDS / 2:
            self._released = now
            release_others([training for training, last in self._ran.items() if now - last < KEEP_SECONDS])
