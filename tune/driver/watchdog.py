"""Kill jobs that hang, and stop a search whose trials keep failing.

A Ray Tune callback beside the recorder. Ray notices a job that raises or whose process dies, but not one that is only
silent. Such a job has a time limit that follows from its own epochs. Past it its process is killed, and the trial
continues in another one.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import ray
import ray.tune
from ray.tune.experiment.trial import Trial

from tune.jobs.causes import kind_of
from tune.jobs.protocol import members
from tune.spaces.settings import SearchSettings

RUNNING = Trial.RUNNING
FACTOR, LEAST_SECONDS = 10.0, 300.0
"""an epoch may take FACTOR times the median of its trial's epochs, and at least LEAST_SECONDS"""


@dataclass
class Silence:
    """The time that a trial's job may be silent. Times are seconds of one clock."""

    first_seconds: float
    """limit of the first report of a job, which has a process to start and data to open"""
    heard: float = 0.0
    """time of the last report"""
    epochs: list[float] = field(default_factory=list)
    """seconds of each epoch of the trial"""
    _reported: bool = False
    _last: tuple[int, float] = (0, 0.0)

    def begin(self, now: float) -> None:
        """Record the start of a job of the trial."""
        self.heard, self._reported = now, False

    def report(self, epoch: int, seconds: float, now: float) -> bool:
        """Record a report of the job; return True if it is of a new epoch.

        Args:
            epoch: the last epoch of the trial.
            seconds: training time of the trial so far.
        """
        self.heard, self._reported = now, True
        before, earlier = self._last
        if epoch > before:
            self.epochs.append((seconds - earlier) / (epoch - before))
            self._last = (epoch, seconds)
        return bool(epoch > before)

    def reason(self, now: float) -> str | None:
        """Return why the job is taken to hang; None if it is within its limit."""
        silent, usual = now - self.heard, statistics.median(self.epochs) if self.epochs else 0.0
        limit = max(LEAST_SECONDS, FACTOR * usual) if self._reported else max(self.first_seconds, FACTOR * usual)
        if silent <= limit:
            return None
        known = f"its epochs take {usual:.1f} s" if self.epochs else "it has reported none"
        return (
            f"it hung: no report for {silent:.0f} s, over the limit of {limit:.0f} s ({known}); its process was killed"
        )


class Watchdog(ray.tune.Callback):
    """Kill jobs that hang; call `stop` with the most common reason when too many trials in a row have failed."""

    def __init__(self, settings: SearchSettings, *, stop: Callable[[str], None]) -> None:
        self._settings, self._stop = settings, stop
        self._trials: dict[int, Silence] = {}
        self._failed: list[str] = []
        self.hung: dict[int, str] = {}
        """trial number -> why its process was killed"""

    def on_trial_start(self, iteration: int, trials: Sequence[Any], trial: Any, **info: Any) -> None:
        self.hung.pop(trial.config["number"], None)
        silence = Silence(60 * self._settings.hang_minutes)
        self._trials.setdefault(trial.config["number"], silence).begin(time.monotonic())

    def heard(self, trial: Any, history: Sequence[Mapping[str, Any]]) -> None:
        """Record a report of a job; `history` holds the metrics in its trial's folder. Called by the recorder."""
        if not history:
            return
        last = history[-1]
        seconds = last["seconds"] * len(members(trial.config))  # a member of a pack counts its share of the time alone
        self._trials[trial.config["number"]].report(last["epoch"], seconds, time.monotonic())

    def on_step_end(self, iteration: int, trials: Sequence[Any], **info: Any) -> None:
        """Kill the running jobs past their limit. Ray Tune calls this several times a second."""
        for trial in trials:
            if trial.status != RUNNING or trial.temporary_state.ray_actor is None:
                continue
            number = trial.config["number"]
            reason = self._trials[number].reason(time.monotonic())
            if reason is not None and number not in self.hung:
                self.hung[number] = reason
                ray.kill(trial.temporary_state.ray_actor)

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
