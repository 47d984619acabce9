"""Kill jobs that hang, and stop a search whose trials keep failing.

A Ray Tune callback beside the recorder. Ray notices a job that raises or whose process dies, but not one that is only
silent. Such a job has a time limit that follows from its own epochs. Past it its process is killed, and the trial
continues in another one.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ray
import ray.tune
from ray.tune.experiment.trial import Trial

from tune.jobs.causes import kind_of
from tune.jobs.protocol import members
from tune.jobs.silence import Silence, first_report
from tune.spaces.settings import SearchSettings

RUNNING = Trial.RUNNING
STALLED_SECONDS = 30.0
"""time between two looks after which the driver itself has stood still, and heard nobody"""


class Watchdog(ray.tune.Callback):
    """Kill jobs that hang; call `stop` with the most common reason when too many trials in a row have failed."""

    def __init__(self, settings: SearchSettings, *, stop: Callable[[str], None]) -> None:
        self._settings, self._stop = settings, stop
        self._trials: dict[int, Silence] = {}
        self._medians: dict[int, float] = {}
        """seconds of the median epoch of each trial"""
        self.first_seconds = 60.0 * settings.hang_minutes
        """limit of the first report of a job"""
        self._failed: list[str] = []
        self._looked = math.inf
        self.hung: dict[int, str] = {}
        """trial number -> why its process was killed"""

    def on_trial_start(self, iteration: int, trials: Sequence[Any], trial: Any, **info: Any) -> None:
        self.hung.pop(trial.config["number"], None)
        self._silence(trial.config["number"]).begin(time.monotonic())

    def _silence(self, number: int) -> Silence:
        return self._trials.setdefault(number, Silence(60 * self._settings.hang_minutes))

    def know(self, number: int, history: Sequence[Mapping[str, Any]]) -> None:
        """Measure the epochs that an earlier run of the search has trained."""
        if history and self._silence(number).know(history[-1]["epoch"], history[-1]["seconds"]):
            self._measure(number)

    def _measure(self, number: int) -> None:
        self._medians[number] = statistics.median(self._silence(number).epochs)
        self.first_seconds = first_report(self._medians.values(), most=60.0 * self._settings.hang_minutes)

    def sign(self, number: int, ago: float) -> None:
        """Record that a job of several workers has shown that it lives, some seconds ago."""
        self._silence(number).sign(time.monotonic() - ago)

    def heard(self, trial: Any, history: Sequence[Mapping[str, Any]]) -> None:
        """Record a report of a job; `history` holds the metrics in its trial's folder. Called by the recorder."""
        if not history:
            return
        last = history[-1]
        seconds = last["seconds"] * len(members(trial.config))  # a member of a pack counts its share of the time alone
        if self._silence(trial.config["number"]).report(last["epoch"], seconds, time.monotonic()):
            self._measure(trial.config["number"])

    def on_step_end(self, iteration: int, trials: Sequence[Any], **info: Any) -> None:
        """Kill the running jobs past their limit. Ray Tune calls this several times a second."""
        self._forgive(time.monotonic())
        for trial in trials:
            if trial.status != RUNNING or trial.temporary_state.ray_actor is None:
                continue
            number = trial.config["number"]
            silence = self._silence(number)
            silence.first_seconds = self.first_seconds
            reason = silence.reason(time.monotonic())
            if reason is not None and number not in self.hung:
                self.hung[number] = f"it hung: {reason}; its process was killed"
                ray.kill(trial.temporary_state.ray_actor)

    def _forgive(self, now: float) -> None:
        """Count no time against the jobs in which the driver stood still: paused, or waiting for a file."""
        gap, self._looked = now - self._looked, now
        if gap > STALLED_SECONDS:
            for silence in self._trials.values():
                silence.heard = min(silence.heard + gap, now)

    def ended(self, reason: str | None) -> None:
        """Record the end of a job that is not tried again now.

        Args:
            reason: why its trial failed or waits for the next run; None if it ended well.
        """
        self._failed = [*self._failed, reason] if reason else []
        if len(self._failed) == self._settings.max_failures_in_a_row:
            kinds = [kind_of(reason) for reason in self._failed]
            common = max(kinds, key=kinds.count)
            example = self._failed[kinds.index(common)]
            self._stop(f"{len(kinds)} trials in a row failed, {kinds.count(common)} of them with this error: {example}")
