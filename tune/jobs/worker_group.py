"""A training by data-parallel workers whose number may shrink and grow: one Ray Train job after another.

A job has a fixed number of workers. It ends with the training, when a worker is lost, when memory runs out, or after an
epoch when there is room for more workers. The next job resumes from the checkpoint with as many workers as fit. The
result does not depend on their number (nmt.training.loop).

Ray Train's own elastic policy is not used. When a node joins, it restarts the group in the middle of an epoch. After a
loss it counts nodes that are gone, and waits a minute for them.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ray
import ray.exceptions
import ray.util
from ray.util.placement_group import PlacementGroup

from nmt.config import Config
from nmt.data.store.ready import ReadyData, local_data
from nmt.errors import UserError, one_line
from nmt.training import out_of_memory as memory
from tune.jobs.notes import Notes
from tune.jobs.protocol import NOTE
from tune.jobs.spot import NodeTakenError, node_watch
from tune.jobs.stored import take_over
from tune.jobs.uploads import Uploads
from tune.results.storage import Storage
from tune.spaces.settings import Resources

STOP_SECONDS = 30.0
"""time that a job has to end"""

LOSSES_IN_A_ROW = 3
"""the training fails when this many jobs in a row fail without an epoch"""

MAX_REASON = 120
"""characters of an error in a line for the user"""

PATIENCE_SECONDS = 2.0
"""time that a group with its fewest workers waits for more before it begins"""


class WorkerGroup:
    """One training by a group of workers.

    Args:
        directory: of the training; its name identifies the training at the control actor.
        data: the Arrow data set: an absolute path or an address, which each worker copies to its node.
        arguments: of nmt.training.loop.train, beside the configuration, the data set and the directory.
        control: the actor that the workers ask, see tune.jobs.control.
        storage: the storage of the run and the training's folder in it; None without a storage.
        scratch: directory for Ray Train's own files, which are never read again.
        note: prints a line when the group changes.
        training: called by each worker instead of nmt.training.loop.train, with the same arguments.
    """

    def __init__(
        self,
        config: Config,
        *,
        directory: Path,
        data: str | ReadyData,
        arguments: Mapping[str, Any],
        resources: Resources,
        control: Any,
        storage: tuple[Storage, str] | None,
        scratch: Path,
        note: Callable[[str], None],
        training: Callable[..., Any] | None = None,
    ) -> None:
        self._training = training
        self._config, self._directory, self._data, self._arguments = config, directory, data, arguments
        self._resources, self._control, self._storage = resources, control, storage
        self._scratch, self._note = scratch, note
        self._name = directory.name
        self._job: _Job | None = None
        self._workers = 0
        self._losses = 0
        self._halved = False
        self._stopped = False
        self._spares: list[PlacementGroup] = []

    def next_epoch(self) -> dict[str, Any] | None:
        """Train one more epoch and return its metrics; None if the training was stopped.

        Raises:
            UserError, DivergedError: raised by the training.
            RayTrainError: workers were lost several times without an epoch in between.
        """
        if self._job is not None:
            more = self._room_for_more()
            ray.get(self._control.decide.remote(self._name, more == 0))
            if more:
                self._note(f"room for {more} more workers: restarting with them")
                self._await_end()
        while not self._stopped:
            if self._job is None:
                self._start()
                continue
            metrics: dict[str, Any] | None = ray.get(self._control.next.remote(self._name))
            if metrics is not None:
                self._losses = 0
                if NOTE in metrics:
                    self._note(metrics.pop(NOTE))
                self._ask_for_more()
                return metrics
            error, self._job = self._job.error, None
            if not self._stopped:
                self._recover(error or RuntimeError("the workers ended before the last epoch"))
        self._await_end()
        return None

    def stop(self) -> None:
        """Ask the workers to save and end, and wait for it. The checkpoint is at the step they had reached."""
        self.ask_to_stop()
        self._await_end()

    def ask_to_stop(self) -> None:
        """Ask the workers to save and end, without waiting. `next_epoch` then returns None."""
        self._stopped = True
        self._control.stop.remote(self._name)

    def _await_end(self) -> None:
        self._give_spares_back()
        if self._job is not None:
            self._job.join(STOP_SECONDS)
            self._job = None

    def _start(self) -> None:
        """Start a job with as many workers as there is room for."""
        before = self._workers
        self._workers = self._count_room()
        if self._stopped:
            return
        if before and self._workers != before:
            self._note(f"resuming with {self._workers} instead of {before} workers")
        number = ray.get(self._control.open.remote(self._name))
        trainer = self._trainer(number)
        self._job = _Job(trainer.fit, lambda: ray.get(self._control.end.remote(self._name, number)))
        self._job.start()

    def _recover(self, error: Exception) -> None:
        """Prepare the next job after one that failed. Raises if the next would fail the same way."""
        import ray.train

        from nmt.training.trainer import DivergedError

        failures = list(error.worker_failures.values()) if isinstance(error, ray.train.WorkerGroupError) else [error]
        if taken := [failure for failure in failures if isinstance(failure, NodeTakenError)]:
            self._note(f"a worker is lost: {taken[0]}; resuming from its checkpoint")
            return
        for failure in failures:
            if isinstance(failure, DivergedError | UserError):
                raise failure
        if any(memory.is_out_of_memory(failure) for failure in failures):
            self._halve()
            return
        self._losses += 1
        if self._losses >= LOSSES_IN_A_ROW:
            raise error
        self._note(f"a worker was lost ({_reason(failures)}); resuming from its checkpoint")

    def _halve(self) -> None:
        smaller = None if self._halved else memory.halved(self._config, workers=self._workers)
        if smaller is None:
            raise memory.out_of_memory(self._config, workers=self._workers)
        self._config, self._halved = smaller, True
        self._note(f"out of memory; resuming from its checkpoint with {smaller.train.micro_batch} pairs at a time")

    def _count_room(self) -> int:
        """Return the number of workers that fit, up to the full size.

        Waits until the fewest workers fit, without a limit: an autoscaler may take minutes to start a node.
        """
        bundle, resources = worker_bundle(self._resources), self._resources
        needed = ray.util.placement_group([bundle] * resources.fewest)
        wished = [ray.util.placement_group([bundle]) for _ in range(resources.workers - resources.fewest)]
        try:
            while not self._stopped and not needed.wait(1):
                pass
            deadline = time.monotonic() + PATIENCE_SECONDS
            fit = [group.wait(max(deadline - time.monotonic(), 0.01)) for group in wished]
            return resources.fewest + sum(fit)
        finally:
            for group in (needed, *wished):
                ray.util.remove_placement_group(group)

    def _ask_for_more(self) -> None:
        """Request the missing workers' resources ahead of time. An autoscaler also sees the request."""
        if not self._spares:
            missing = self._resources.workers - self._workers
            self._spares = [ray.util.placement_group([worker_bundle(self._resources)]) for _ in range(missing)]

    def _room_for_more(self) -> int:
        return sum(group.wait(0.01) for group in self._spares)

    def _give_spares_back(self) -> None:
        for group in self._spares:
            ray.util.remove_placement_group(group)
        self._spares = []

    def _trainer(self, number: int) -> Any:
        import ray.train
        from ray.train.torch import TorchConfig, TorchTrainer

        from nmt.distributed import BACKENDS

        gpus = self._resources.gpus
        return TorchTrainer(
            _train_on_worker,
            train_loop_config={
                "config": self._config,
                "directory": self._directory,
                "data": self._data,
                "arguments": dict(self._arguments),
                "resources": self._resources,
                "control": self._control,
                "storage": self._storage,
                "number": number,
                "training": self._training,
            },
            torch_config=TorchConfig(backend=BACKENDS if gpus else "gloo"),
            scaling_config=ray.train.ScalingConfig(
                num_workers=self._workers,
                use_gpu=gpus > 0,
                resources_per_worker=worker_bundle(self._resources),
            ),
            run_config=ray.train.RunConfig(
                name=f"{self._name}-{number}",
                storage_path=str(self._scratch),
                # The group retries. By default Ray Train would retry forever if workers cannot start.
                failure_config=ray.train.FailureConfig(max_failures=0, controller_failure_limit=0),  # type: ignore[call-arg]
            ),
        )


def worker_bundle(resources: Resources) -> dict[str, float]:
    """Return the resources of one worker under Ray's names."""
    return {"CPU": float(resources.cpus)} | ({"GPU": resources.gpus} if resources.gpus else {})


def _reason(failures: Sequence[Exception]) -> str:
    """Return in few words why a worker was lost.

    All workers fail when one is lost, so the error of another one may be the only one there is.
    """
    if any(isinstance(failure, ray.exceptions.RayActorError) for failure in failures):
        return "its process died"
    return re.sub(r"^\[\S+\] ", "", one_line(failures[0])).partition(". ")[0][
        :MAX_REASON
    ]  # gloo's errors begin with [file:line]


class _Job(threading.Thread):
    """Run `work` in a thread that dies with the process.

    `error` is the exception it raised. `at_end` is called in any case.
    """

    def __init__(self, work: Callable[[], Any], at_end: Callable[[], None]) -> None:
        super().__init__(daemon=True)
        self._work, self._at_end = work, at_end
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            self._work()
        except Exception as error:
            self.error = error
        finally:
            self._at_end()


class _StoppedError(Exception):
    """Ends this worker after the epoch that it has completed."""


def _train_on_worker(job: dict[str, Any]) -> None:
    """Train as one rank of the group. Rank 0 talks to the control actor for all ranks."""
    import ray.train.torch
    import torch
    import torch.distributed as dist

    import nmt.training.history
    import nmt.training.loop

    control, key = job["control"], (job["directory"].name, job["number"])
    first = dist.get_rank() == 0
    stopped, notes, watch = threading.Event(), Notes(), node_watch()
    storage, folder = job["storage"] or (None, "")
    uploads = Uploads(storage if first else None)
    take_over(storage, folder, first=first)
    if first:
        ray.get(control.reserve.remote(*key, ray.util.get_current_placement_group()))
        threading.Thread(target=_await_stop, args=(control, key, stopped), daemon=True).start()

    def on_epoch(report: nmt.training.history.EpochResult) -> None:
        uploads.put(folder)
        metrics = report.metrics | notes.take(job["directory"])
        decision = [ray.get(control.report.remote(*key, metrics)) if first else None]
        dist.broadcast_object_list(decision)
        if not decision[0]:
            raise _StoppedError

    torch.set_num_threads(job["resources"].cpus)
    training = job["training"] or nmt.training.loop.train
    try:
        with notes, uploads:
            training(
                job["config"],
                data=local_data(job["data"], job["config"]),
                directory=job["directory"],
                device=ray.train.torch.get_device() if job["resources"].gpus else torch.device("cpu"),
                on_epoch=on_epoch,
                on_checkpoint=lambda: uploads.later(folder),
                interrupted=lambda: stopped.is_set() or watch.taken,
                resume=True,
                **job["arguments"],
            )
    except KeyboardInterrupt:  # its checkpoint is at the step it had reached
        uploads.put(folder)
        watch.leave_together()
    except _StoppedError:  # its checkpoint is at the epoch, and uploaded
        return


def _await_stop(control: Any, key: tuple[str, int], stopped: threading.Event) -> None:
    try:
        ray.get(control.stopped.remote(*key))
    except ray.exceptions.RayError:  # the actor has ended, so nobody can stop this job any more
        return
    stopped.set()
