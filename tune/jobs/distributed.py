"""A trial of several data-parallel workers: a group (tune.jobs.worker_group) inside the trial.

The group sees to its workers; what is left to Ray Tune to try again is the death of the trial's own process.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any

import ray
import ray.tune

from nmt.config import from_dict
from nmt.errors import UserError
from nmt.training.history import read_metrics
from tune.jobs.protocol import NOTE, TrialSetup, failure, interrupted, trial_directory, trial_folder
from tune.jobs.stop import POLL_SECONDS, Asked
from tune.jobs.worker_group import WorkerGroup
from tune.results.storage import no_weights


class WorkersTrial(ray.tune.Trainable):
    """The trial in Ray Tune's eyes: a step is an epoch of the group."""

    def setup(self, config: dict[str, Any], setup: TrialSetup, gate: Any) -> None:  # type: ignore[override]
        """Called once a process; `setup` and `gate` come through ray.tune.with_parameters."""
        self._shared, self._gate = setup, gate
        self._stopping = threading.Event()
        self._begin(config)
        threading.Thread(target=self._watch_flag, daemon=True).start()

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next trial in this process."""
        self.cleanup()
        self._begin(new_config)
        return True

    def _begin(self, trial: Mapping[str, Any]) -> None:
        self._directory, self._folder = trial_directory(self._shared, trial), trial_folder(trial)
        self._configuration = from_dict(trial["configuration"], source=f"trial {self._directory.name}")
        self._until: int = trial["until"]
        self._notes: list[str] = []
        self._last: dict[str, Any] = {}
        self._group: WorkerGroup | None = None
        ray.get(self._gate.close.remote(self._directory.name))

    def _make_group(self) -> WorkerGroup:
        return WorkerGroup(
            self._configuration,
            directory=self._directory,
            data=self._shared.data,
            arguments={"until": self._until, "decode_grid": self._shared.decode_grid},
            resources=self._shared.resources,
            gate=self._gate,
            storage=(self._shared.storage, self._folder) if self._shared.storage is not None else None,
            scratch=self._shared.directory / "ray" / "train",
            say=self._notes.append,
        )

    def _watch_flag(self) -> None:
        asked = Asked(self._shared.flag)
        while not asked():
            time.sleep(POLL_SECONDS)
        self._stopping.set()
        if self._group is not None:
            self._group.ask_to_stop()

    def step(self) -> dict[str, Any]:
        """The metrics of the next epoch."""
        from nmt.training.trainer import DivergedError

        try:
            metrics = self._next_epoch()
            return self._result(metrics) if metrics is not None else interrupted(self._directory) | {"done": True}
        except (DivergedError, UserError) as error:
            return failure(error, self._directory) | {"done": True}

    def _next_epoch(self) -> dict[str, Any] | None:
        """Its metrics; None where the search was asked to stop before its end."""
        if self._group is None and not self._last:
            if self._shared.storage is not None:
                self._shared.storage.fetch(self._folder, wanted=no_weights)
            history = read_metrics(self._directory)
            if history:
                # A run that died may have trained this epoch without hearing the scheduler's decision on it.
                return history[-1]
        self._group = self._group or self._make_group()
        if self._stopping.is_set():
            return None
        return self._group.next_epoch()

    def _result(self, metrics: dict[str, Any]) -> dict[str, Any]:
        self._last = metrics
        notes, self._notes[:] = "; ".join(self._notes), []
        return metrics | {"done": metrics["epoch"] >= self._until} | ({NOTE: notes} if notes else {})

    def cleanup(self) -> None:
        """End the group. Called by Ray Tune for stopped trials."""
        if self._group is not None:
            self._group.stop()
