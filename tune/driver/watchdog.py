"""What a search does about jobs that hang, and about failures that do not end.

A Ray Tune callback beside the recorder. A job that raises or whose process dies is seen by Ray; one that only is silent
is seen by nobody: it is given a time that its own epochs set, then its process is killed and it has failed.
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

from tune.jobs.protocol import members
from tune.spaces.settings import SearchSettings

RUNNING = Trial.RUNNING
FACTOR, LEAST_SECONDS = 10.0, 300.0
"""An epoch may take this many times the median of its trial's epochs, or this long if that is more."""


@dataclass
class Silence:
    """How long a trial's job may be silent. Times are seconds of one clock."""

    first_seconds: float
    """until the first report of a job: a process starts, data are opened"""
    heard: float = 0.0
    epochs: list[float] = field(default_factory=list)
    """seconds of each epoch of the trial"""
    _reported: bool = False
    _last: tuple[int, float] = (0, 0.0)

    def begin(self, now: float) -> None:
        """A job of the trial begins."""
        self.heard, self._reported = now, False

    def report(self, epoch: int, seconds: float, now: float) -> bool:
        """Note that the job has reported, with the trial's last epoch and its seconds so far; return whether the epoch
        is a new one."""
        self.heard, self._reported = now, True
        before, earlier = self._last
        if epoch > before:
            self.epochs.append((seconds - earlier) / (epoch - before))
            self._last = (epoch, seconds)
        return bool(epoch > before)

    def reason(self, now: float) -> str | None:
        """Why the job is taken to hang; None while it is not."""
        silent, usual = now - self.heard, statistics.median(self.epochs) if self.epochs else 0.0
        limit = max(LEAST_SECONDS, FACTOR * usual) if self._reported else max(self.first_seconds, FACTOR * usual)
        if silent <= limit:
            return None
        known = f"its epochs take {usual:.1f} s" if self.epochs else "it has reported none"
        return (
            f"it hung: no report for {silent:.0f} s, over the limit of {limit:.0f} s ({known}); its process was killed"
        )


class Watchdog(ray.tune.Callback):
    """Kills jobs that hang; calls `stop` with the common reason when too many trials in a row have failed."""

    def __init__(self, settings: SearchSettings, *, stop: Callable[[str], None]) -> None:
        self._settings, self._stop = settings, stop
        self._trials: dict[int, Silence] = {}
        self._failed: list[str] = []
        self.hung: dict[int, str] = {}
        """why a trial's process was killed, by number"""

    def on_trial_start(self, iteration: int, trials: Sequence[Any], trial: Any, **info: Any) -> None:
        silence = Silence(60 * self._settings.hang_minutes)
        self._trials.setdefault(trial.config["number"], silence).begin(time.monotonic())

    def heard(self, trial: Any, history: Sequence[Mapping[str, Any]]) -> None:
        """Note that a job has reported; `history` is what its trial's folder holds. Called by the recorder."""
        if not history:
            return
        last = history[-1]
        seconds = last["seconds"] * len(members(trial.config))  # in a pack, each member counts its share alone
        if self._trials[trial.config["number"]].report(last["epoch"], seconds, time.monotonic()):
            # Nodes come and go: only to die twice without an epoch in between is a failure.
            trial.run_metadata.num_failures = 0

    def on_step_end(self, iteration: int, trials: Sequence[Any], **info: Any) -> None:
        """Called by Ray Tune several times a second."""
        for trial in trials:
            if trial.status != RUNNING or trial.temporary_state.ray_actor is None:
                continue
            number = trial.config["number"]
            reason = self._trials[number].reason(time.monotonic())
            if reason is not None and number not in self.hung:
                self.hung[number] = reason
                trial.max_failures = 0  # it would hang again
                ray.kill(trial.temporary_state.ray_actor)

    def ended(self, reason: str | None) -> None:
        """A job has ended: `reason` is why its trial failed, None where it did not."""
        self._failed = [*self._failed, reason] if reason else []
        if len(self._failed) == self._settings.max_failures_in_a_row:
            kinds = [reason.partition(" (")[0] for reason in self._failed]  # numbers differ
            common = max(kinds, key=kinds.count)
            example = self._failed[kinds.index(common)]
            self._stop(f"{len(kinds)} trials in a row failed, {kinds.count(common)} of them like this: {example}")
