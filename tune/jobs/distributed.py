"""A trial with several data-parallel workers: a worker group (tune.jobs.worker_group) inside the trial.

The group retries when a worker is lost. The driver retries when the group gives up, or the trial's own process dies.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

import ray.exceptions
import ray.tune

from nmt.config import from_dict
from nmt.errors import UserError, one_line
from nmt.training.files import BEST
from nmt.training.history import best_epoch, read_metrics
from tune.jobs.causes import is_final, of_the_storage
from tune.jobs.control import POLL_SECONDS, Asked
from tune.jobs.protocol import NOTE, TrialSetup, event, failure, interrupted, trial_directory
from tune.jobs.reservations import release, training_of
from tune.jobs.worker_group import WorkerGroup
from tune.results.layout import RAY_TRAIN, run_folder, trial_folder
from tune.results.storage import no_weights


class WorkersTrial(ray.tune.Trainable):
    """A trial as Ray Tune's class trainable: a step is an epoch of the group."""

    def setup(self, config: dict[str, Any], setup: TrialSetup) -> None:  # type: ignore[override]
        """Prepare the process for its first trial. Ray calls it once; `setup` comes through with_parameters."""
        self._shared = setup
        self._stopping = threading.Event()
        self._begin(config)
        threading.Thread(target=self._watch_control, daemon=True).start()

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Prepare the process for its next trial. Ray reuses processes, which saves their imports."""
        self.cleanup()
        self._begin(new_config)
        return True

    def _begin(self, trial: Mapping[str, Any]) -> None:
        self._trial, self._begun = trial, False
        self._directory, self._folder = trial_directory(self._shared, trial), trial_folder(trial["number"])
        self._configuration = from_dict(trial["configuration"], source=f"trial {self._directory.name}")
        self._notes: list[str] = []
        self._group: WorkerGroup | None = None
        release(training_of(self._directory))

    def _make_group(self) -> WorkerGroup:
        return WorkerGroup(
            self._configuration,
            directory=self._directory,
            data=self._shared.data,
            arguments={
                "until": self._trial["until"],
                "decode_grid": self._shared.decode_grid,
                "val_f1": self._shared.val_f1,
                "root": run_folder(self._directory),
            },
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
            metrics = self._train_epoch()
        except (DivergedError, UserError) as error:
            if not is_final(error):  # the driver counts it, and tries again
                raise
            return failure(self._shared, self._trial, error) | {"done": True}
        except ray.exceptions.RayError as error:  # of another process; Ray would show it as an error of this one
            raise RuntimeError(one_line(error)) from error
        if metrics is None:
            return interrupted(self._shared, self._trial) | {"done": True}
        notes, self._notes[:] = "; ".join(self._notes), []
        done = metrics["epoch"] >= self._trial["until"]
        return event(self._shared, self._trial, metrics) | {"done": done} | ({NOTE: notes} if notes else {})

    def _train_epoch(self) -> Mapping[str, Any] | None:
        """Train the next epoch and return its metrics; None if the search was asked to stop before its end.

        The first step trains nothing if the folder already has epochs: an earlier process may have died before it
        reported the last one. If the training is over and its best weights are lost, the workers restore them.
        """
        first, self._begun = not self._begun, True
        if first:
            self._fetch()
            trained = read_metrics(self._directory)
            if trained and not (trained[-1]["epoch"] >= self._configuration.train.epochs and self._lacks_best(trained)):
                return trained[-1]
        self._group = self._group or self._make_group()
        metrics = None if self._stopping.is_set() else self._group.next_epoch()
        if metrics is not None:
            self._fetch()
        return metrics

    def _lacks_best(self, trained: Sequence[Mapping[str, Any]]) -> bool:
        """True if the weights of the best epoch are not where the trial lives; the driver waits for them."""
        if not best_epoch(trained):
            return False
        if self._shared.storage is None:
            return not (self._directory / BEST).is_file()
        with of_the_storage():
            return not self._shared.storage.holds(BEST, self._folder)

    def _fetch(self) -> None:
        """Update the folder from the storage: the workers may run on other nodes."""
        if self._shared.storage is not None:
            with of_the_storage():
                self._shared.storage.fetch(self._folder, wanted=no_weights)

    def cleanup(self) -> None:
        """End the group. Ray Tune calls it for stopped trials."""
        if self._group is not None:
            self._group.stop()
