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
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
import ray.exceptions

from nmt.config import Config
from nmt.data.store.ready import ReadyData, local_data
from nmt.errors import UserError, one_line
from nmt.training import out_of_memory as memory
from nmt.training.history import read_metrics
from tune.jobs.causes import of_the_storage
from tune.jobs.control import ask
from tune.jobs.notes import Notes
from tune.jobs.protocol import NOTE
from tune.jobs.reservations import training_of
from tune.jobs.room import Room, worker_bundle
from tune.jobs.silence import Silence, first_report
from tune.jobs.spot import NodeTakenError, node_watch
from tune.jobs.stored import take_over
from tune.jobs.uploads import Uploads
from tune.results.storage import Storage, no_weights
from tune.spaces.settings import Resources

if TYPE_CHECKING:
    from tune.jobs.train_job import TrainJob

STOP_SECONDS = 30.0
"""time that a job has to end"""

KILL_SECONDS = 20.0
"""time that a job has to end once its workers were killed"""

LOSSES_IN_A_ROW = 3
"""the training fails when this many jobs in a row fail without an epoch"""

MAX_REASON = 120
"""characters of an error in a line for the user"""

BEGIN_SECONDS = 300.0
"""time that the workers of a job have to start"""
FIRST_SECONDS = 7200.0
"""limit of the first report of a job where no epoch has been measured, and no search tells another"""
LEAST_SECONDS = 120.0
"""least limit of the other reports: below that of the driver, which watches the process around the group"""


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
        waits: prints a line when the group waits for resources; None where the driver asks the control actor.
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
        waits: Callable[[str], None] | None = None,
        training: Callable[..., Any] | None = None,
    ) -> None:
        self._training = training
        self._config, self._directory, self._data, self._arguments = config, directory, data, arguments
        self._resources, self._control, self._storage = resources, control, storage
        self._scratch, self._note = scratch, note
        self._name, self._reserved_as = directory.name, training_of(directory)
        self._job: TrainJob | None = None
        self._workers = 0
        self._losses = 0
        self._halved = False
        self._stopped = False
        self._room = Room(resources, self._reserved_as, control=control, name=self._name, waits=waits)
        self._silence = Silence(FIRST_SECONDS, least=LEAST_SECONDS)
        self._epoch = max((metrics["epoch"] for metrics in read_metrics(directory)), default=0)
        self._reported = 0
        """last epoch that the running job has reported"""

    def next_epoch(self) -> dict[str, Any] | None:
        """Train one more epoch and return its metrics; None if the training was stopped.

        Raises:
            UserError, DivergedError: raised by the training.
            RayTrainError: workers were lost several times without an epoch in between.
        """
        if self._job is not None and (more := self._room.more()):
            self._note(f"room for {more} more workers: restarting with them")
            self._await_end()
        while not self._stopped or self._job is not None:
            if self._job is None:
                self._start()
                continue
            metrics = self._await_epoch(self._job)
            if metrics is not None:
                self._losses, self._epoch = 0, metrics["epoch"]
                if NOTE in metrics:
                    self._note(metrics.pop(NOTE))
                self._room.ask_for_more(self._workers)
                return metrics
            error, self._job = self._job.error, None
            if not self._stopped:
                self._recover(error or RuntimeError("the workers ended before the last epoch"))
        self._await_end()
        return None

    def _await_epoch(self, job: TrainJob) -> dict[str, Any] | None:
        """Return the metrics of the job's next epoch; None if the job has ended before, with its error."""
        silence, waited = self._silence, time.monotonic()
        running = bool(self._reported)
        silence.heard = waited  # time between two epochs is the caller's
        while True:
            alive, number = job.is_alive(), job.number
            reply = ask(self._control, "next", self._name, number, self._reported, self._stopped)
            now = time.monotonic()
            if reply.metrics is not None:
                metrics: dict[str, Any] = reply.metrics
                self._reported = metrics["epoch"]
                if running:  # else it includes the start
                    silence.epochs.append(now - waited)
                silence.report(0, 0.0, now)
                return metrics
            if not alive:
                return self._unreported(ended_well=job.error is None)
            if reply.begun and not running:
                running = True
                silence.begin(now)
            silence.first_seconds = reply.first_seconds or first_report(silence.epochs, most=FIRST_SECONDS)
            late = f"its workers did not start within {BEGIN_SECONDS:.0f} s" if now - waited > BEGIN_SECONDS else None
            overdue = silence.reason(now) if running else late
            if overdue is not None:
                job.kill(KILL_SECONDS)
                job.error = TimeoutError(overdue)
                return None

    def _unreported(self, *, ended_well: bool) -> dict[str, Any] | None:
        """Return the metrics of the last epoch if the job has trained it and died before it could report it.

        Also if it has ended well without an epoch: the training was over, and the job has restored its files.
        """
        if self._storage is not None:
            with of_the_storage():
                self._storage[0].fetch(self._storage[1], wanted=no_weights)
        trained = read_metrics(self._directory)
        last = self._arguments.get("until") or self._config.train.epochs
        least = min(last, self._epoch + 1) if ended_well else self._epoch + 1
        return dict(trained[-1]) if trained and trained[-1]["epoch"] >= least else None

    def stop(self) -> None:
        """Ask the workers to save and end, and wait for it. The checkpoint is at the step they had reached."""
        self.ask_to_stop()
        self._await_end()

    def ask_to_stop(self) -> None:
        """Ask the workers to save and end, without waiting. `next_epoch` then returns None."""
        self._stopped = True
        if (job := self._job) is not None:
            self._control.stop.remote(self._name, job.number)  # `next_epoch` repeats it

    def _await_end(self) -> None:
        self._room.give_back()
        job, self._job = self._job, None
        if job is not None and job.is_alive():
            ask(self._control, "stop", self._name, job.number)
            job.join(STOP_SECONDS)
            if job.is_alive():
                job.kill(KILL_SECONDS)

    def _start(self) -> None:
        """Start a job with as many workers as there is room for."""
        from tune.jobs.train_job import TrainJob

        number, before = time.time_ns(), self._workers
        self._workers = self._room.find(number, stopped=lambda: self._stopped)
        if self._stopped:
            return
        if before and self._workers != before:
            self._note(f"resuming with {self._workers} instead of {before} workers")
        ask(self._control, "open", self._name, number)
        self._reported = 0
        self._silence.begin(time.monotonic())
        self._job = TrainJob(
            _train_on_worker,
            {
                "config": self._config,
                "directory": self._directory,
                "data": self._data,
                "arguments": dict(self._arguments),
                "resources": self._resources,
                "control": self._control,
                "storage": self._storage,
                "training": self._training,
            },
            workers=self._workers,
            bundle=worker_bundle(self._resources),
            training=self._reserved_as,
            name=self._name,
            number=number,
            control=self._control,
            scratch=self._scratch,
        )
        self._job.start()

    def _recover(self, error: Exception) -> None:
        """Prepare the next job after one that failed. Raises if the next would fail the same way."""
        from nmt.training.trainer import DivergedError
        from tune.jobs.train_job import found_no_room

        failures = _failures(error)
        if taken := [failure for failure in failures if isinstance(failure, NodeTakenError)]:
            self._note(f"a worker is lost: {taken[0]}; resuming from its checkpoint")
            return
        for failure in failures:
            if isinstance(failure, DivergedError | UserError):
                raise failure
        if any(memory.is_out_of_memory(failure) for failure in failures):
            self._halve()
            return
        if found_no_room(error):
            return
        self._losses += 1
        if self._losses >= LOSSES_IN_A_ROW:
            raise error
        self._note(f"a worker was lost ({reason(error)}); resuming from its checkpoint")

    def _halve(self) -> None:
        smaller = None if self._halved else memory.halved(self._config, workers=self._workers)
        if smaller is None:
            raise memory.out_of_memory(self._config, workers=self._workers)
        self._config, self._halved = smaller, True
        self._note(f"out of memory; resuming from its checkpoint with {smaller.train.micro_batch} pairs at a time")


def reason(error: Exception) -> str:
    """Return in few words why a worker was lost.

    All workers fail when one is lost, so the error of another one may be the only one there is.
    """
    from tune.jobs.train_job import died, froze

    failures = _failures(error)
    if any(died(failure) for failure in failures):
        return "its process died"
    if any(froze(failure) for failure in failures):
        return "its process is frozen"
    return re.sub(r"^\[\S+\] ", "", one_line(failures[0])).partition(". ")[0][
        :MAX_REASON
    ]  # gloo's errors begin with [file:line]


def _failures(error: Exception) -> list[Exception]:
    """Return the errors of the workers that ended a job, or the error of the job itself."""
    import ray.train

    return list(error.worker_failures.values()) if isinstance(error, ray.train.WorkerGroupError) else [error]


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
    uploads, reported = Uploads(storage if first else None), list[int]()
    if first:
        threading.Thread(target=_await_stop, args=(control, key, stopped), daemon=True).start()
    take_over(storage, folder, job["config"], first=first)

    def on_epoch(report: nmt.training.history.EpochResult) -> None:
        uploads.put(folder)
        reported.append(report.epoch)
        metrics = report.metrics | notes.take(job["directory"])
        decision = [ask(control, "report", *key, metrics, seconds=None) if first else None]
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
            if not reported:  # the training was over, and has only restored its files
                uploads.put(folder)
    except KeyboardInterrupt:  # its checkpoint is at the step it had reached
        uploads.put(folder)
        watch.leave_together()
    except _StoppedError:  # its checkpoint is at the epoch, and uploaded
        return


def _await_stop(control: Any, key: tuple[str, int], stopped: threading.Event) -> None:
    try:
        while not ask(control, "stopped", *key, seconds=None):
            pass
    except ray.exceptions.RayError:  # another job took its place, or the cluster has ended
        return
    stopped.set()
