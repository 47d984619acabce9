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
from tune.jobs.control import POLL_SECONDS, Asked
from tune.jobs.protocol import NOTE, TrialSetup, event, failure, interrupted, trial_directory
from tune.jobs.worker_group import WorkerGroup
from tune.results.layout import RAY_TRAIN, trial_folder
from tune.results.storage import no_weights


class WorkersTrial(ray.tune.Trainable):
    """The trial in Ray Tune's eyes: a step is an epoch of the group."""

    def setup(self, config: dict[str, Any], setup: TrialSetup) -> None:  # type: ignore[override]
        """Called once per process; `setup` comes through ray.tune.with_parameters."""
        self._shared = setup
        self._stopping = threading.Event()
        self._begin(config)
        threading.Thread(target=self._watch_control, daemon=True).start()

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next trial in this process."""
        self.cleanup()
        self._begin(new_config)
        return True

    def _begin(self, trial: Mapping[str, Any]) -> None:
        self._trial, self._begun = trial, False
        self._directory, self._folder = trial_directory(self._shared, trial), trial_folder(trial["number"])
        self._configuration = from_dict(trial["configuration"], source=f"trial {self._directory.name}")
        self._notes: list[str] = []
        self._group: WorkerGroup | None = None
        ray.get(self._shared.control.close.remote(self._directory.name))

    def _make_group(self) -> WorkerGroup:
        return WorkerGroup(
            self._configuration,
            directory=self._directory,
            data=self._shared.data,
            arguments={"until": self._trial["until"], "decode_grid": self._shared.decode_grid},
            resources=self._shared.resources,
            control=self._shared.control,
            storage=(self._shared.storage, self._folder) if self._shared.storage is not None else None,
            scratch=self._shared.directory / RAY_TRAIN,
            note=self._notes.append,
        )

    def _watch_control(self) -> None:
        asked = Asked(self._shared.control)
        while not asked():
            time.sleep(POLL_SECONDS)
        self._stopping.set()
        if self._group is not None:
            self._group.ask_to_stop()

    def step(self) -> dict[str, Any]:
        """Train one more epoch and return its event."""
        from nmt.training.trainer import DivergedError

        try:
            epoch = self._train_epoch()
        except (DivergedError, UserError) as error:
            return failure(self._shared, self._trial, error) | {"done": True}
        if epoch is None:
            return interrupted(self._shared, self._trial) | {"done": True}
        notes, self._notes[:] = "; ".join(self._notes), []
        done = epoch >= self._trial["until"]
        return event(self._shared, self._trial) | {"done": done} | ({NOTE: notes} if notes else {})

    def _train_epoch(self) -> int | None:
        """Train the next epoch and return its number; None where the search was asked to stop before its end.

        A first step with epochs in the folder trains none: a process that died may have taken the last one's event
        with it.
        """
        first, self._begun = not self._begun, True
        if first:
            self._fetch()
            if trained := len(read_metrics(self._directory)):
                return trained
        self._group = self._group or self._make_group()
        metrics = None if self._stopping.is_set() else self._group.next_epoch()
        if metrics is None:
            return None
        self._fetch()
        return int(metrics["epoch"])

    def _fetch(self) -> None:
        """Bring the folder here up to date: the workers may be on other nodes."""
        if self._shared.storage is not None:
            self._shared.storage.fetch(self._folder, wanted=no_weights)

    def cleanup(self) -> None:
        """End the group. Called by Ray Tune for stopped trials."""
        if self._group is not None:
            self._group.stop()
