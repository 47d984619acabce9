"""One job of Ray Train: a fixed number of workers, under a name that everybody can find.

Ray Train reserves the workers' resources by itself, without a name. If its controller is killed they stay reserved. Its
own remedy, a PlacementGroupCleaner, asks the dashboard, which may be off; then it neither cleans nor ends. So the
reservation gets a name of tune.jobs.reservations here, and that actor is left out.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ray
import ray.exceptions
import ray.train
from ray.train.torch import TorchConfig, TorchTrainer
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.train.v2._internal.exceptions import (
    WorkerGroupStartupTimeoutError,
    WorkerHealthCheckFailedError,
    WorkerHealthCheckTimeoutError,
)
from ray.train.v2._internal.execution.callback import WorkerGroupCallback
from ray.train.v2._internal.execution.worker_group import worker_group

from nmt.distributed import BACKENDS
from tune.jobs.reservations import name_of, release


class TrainJob(threading.Thread):
    """Run one job in a thread that dies with the process.

    `error` is the exception that ended it. Its resources are then released, and `at_end` is called in any case.

    Args:
        loop: called by each worker with `arguments` and the number of the job.
        training: the name of its reservations, see tune.jobs.reservations.
        name: of the training at the control actor.
        number: of the job.
        scratch: directory for Ray Train's own files.
    """

    def __init__(
        self,
        loop: Callable[[dict[str, Any]], None],
        arguments: Mapping[str, Any],
        *,
        workers: int,
        bundle: dict[str, float],
        training: str,
        name: str,
        number: int,
        control: Any,
        scratch: Path,
    ) -> None:
        super().__init__(daemon=True)
        self.number = number
        self.error: Exception | None = None
        self._training, self._name, self._control = training, name, control
        gpus = bundle.get("GPU", 0.0)
        self._trainer = _Trainer(
            loop,
            train_loop_config={**arguments, "number": number},
            torch_config=TorchConfig(backend=BACKENDS if gpus else "gloo"),
            scaling_config=ray.train.ScalingConfig(
                num_workers=workers, use_gpu=gpus > 0, resources_per_worker=dict(bundle)
            ),
            run_config=ray.train.RunConfig(
                name=f"{name}-{number}",
                storage_path=str(scratch),
                callbacks=[_Named(training, name, number, control)],  # type: ignore[list-item]
                # The group retries. By default Ray Train would retry forever if workers cannot start.
                failure_config=ray.train.FailureConfig(max_failures=0, controller_failure_limit=0),  # type: ignore[call-arg]
            ),
        )

    def run(self) -> None:
        try:
            self._trainer.fit()
        except Exception as error:
            self.error = error
        finally:
            self._control.ended.remote(self._name, self.number)
            if self.error is not None:
                release(self._training, self.number)

    def kill(self, seconds: float) -> None:
        """End the job and its workers, whatever they do; wait for that for some seconds."""
        release(self._training, self.number)
        self.join(seconds)
        if self.is_alive():
            self._control.close.remote(self._name, self.number)
            self.join(seconds)


def found_no_room(error: Exception) -> bool:
    """True if the job ended because others took the resources that were free for it."""
    cause = error.controller_failure if isinstance(error, ray.train.ControllerError) else None
    return isinstance(cause, WorkerGroupStartupTimeoutError)


def died(error: Exception) -> bool:
    """True if a process of the job has died."""
    cause = error.health_check_failure if isinstance(error, WorkerHealthCheckFailedError) else error
    return isinstance(cause, ray.exceptions.RayActorError)


def froze(error: Exception) -> bool:
    """True if a worker did not answer Ray Train for a long time."""
    return isinstance(error, WorkerHealthCheckTimeoutError)


class _Trainer(TorchTrainer):
    def _create_default_callbacks(self) -> list[Any]:
        callbacks: list[Any] = super()._create_default_callbacks()  # type: ignore[misc]
        return [callback for callback in callbacks if not isinstance(callback, PlacementGroupCleanerCallback)]


class _Named(WorkerGroupCallback):
    """Make Ray Train's controller name what it reserves, and known to the control actor. Runs in its process."""

    def __init__(self, training: str, name: str, number: int, control: Any) -> None:
        self._training, self._name, self._number, self._control = training, name, number, control

    def before_worker_group_start(self, worker_group_context: Any) -> None:
        self._control.driven.remote(self._name, self._number, ray.get_runtime_context().current_actor)
        # Ray Train has no setting for the name: its module calls this function next.
        module: Any = worker_group
        name = name_of(self._training, self._number)
        module.placement_group = functools.partial(module.placement_group, name=name)
