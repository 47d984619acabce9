"""A trial of several data-parallel workers: a Ray Train job inside the trial.

Early stopping must reach the workers, and Ray Train has no way to end a job from outside: where the trial around it
just dies, the resources of its workers stay reserved (its cleaner asks the dashboard, which need not be there). So the
workers ask at the end of each epoch whether to go on, at a `Gate`: one small actor for all trials of a search.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
import ray.tune
import ray.util
from ray.util.placement_group import PlacementGroup

from nmt.config import Config, from_dict
from nmt.errors import UserError
from tune.report import read_metrics
from tune.trial import TrialSetup, failure, trial_directory

STOP_SECONDS = 30.0
"""how long a stopped trial waits for its workers to leave"""


@dataclass
class _Room:
    """What passes between one trial and its workers."""

    epochs: asyncio.Queue[dict[str, Any] | None] = field(default_factory=asyncio.Queue)
    """metrics of each epoch; None when the job has ended"""
    decisions: asyncio.Queue[bool] = field(default_factory=asyncio.Queue)
    """for each epoch whether to go on"""
    reserved: PlacementGroup | None = None
    """the workers' resources"""


class Gate:
    """An actor where the workers of each trial report an epoch and hear whether to go on."""

    def __init__(self) -> None:
        self._rooms: dict[str, _Room] = {}

    async def open(self, trial: str) -> None:
        """A trial begins; what a process of it that died left behind is given back."""
        await self.close(trial)
        self._rooms[trial] = _Room()

    async def close(self, trial: str) -> None:
        """A trial has ended; resources its workers still hold are given back, and with them the workers end."""
        room = self._rooms.pop(trial, None)
        if room is not None and room.reserved is not None:
            ray.util.remove_placement_group(room.reserved)

    async def reserve(self, trial: str, group: PlacementGroup) -> None:
        """From the workers: the resources they run on."""
        self._rooms[trial].reserved = group

    async def report(self, trial: str, metrics: dict[str, Any]) -> bool:
        """From rank 0: an epoch is over; waits for the decision whether to go on."""
        room = self._rooms[trial]
        room.epochs.put_nowait(metrics)
        return await room.decisions.get()

    async def next(self, trial: str) -> dict[str, Any] | None:
        """From the trial: the metrics of the next epoch, None when the job has ended."""
        return await self._rooms[trial].epochs.get()

    async def decide(self, trial: str, go_on: bool) -> None:
        """From the trial: the answer to an epoch."""
        self._rooms[trial].decisions.put_nowait(go_on)

    async def end(self, trial: str) -> None:
        """From the trial: its job has ended, by itself or by an error, and holds nothing any more."""
        self._rooms[trial].reserved = None
        self._rooms[trial].epochs.put_nowait(None)


class WorkersTrial(ray.tune.Trainable):
    """The trial in Ray Tune's eyes: a step is an epoch of the job."""

    def setup(self, config: dict[str, Any], setup: TrialSetup, gate: Any) -> None:  # type: ignore[override]
        """Called once a process; `setup` and `gate` come through ray.tune.with_parameters."""
        self._shared, self._gate = setup, gate
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next trial in this process."""
        self.cleanup()
        self._begin(new_config)
        return True

    def _begin(self, trial: Mapping[str, Any]) -> None:
        self._directory = trial_directory(self._shared, trial)
        self._configuration = from_dict(trial["configuration"], source=f"trial {self._directory.name}")
        self._until: int = trial["until"]
        self._job: _Job | None = None
        self._last: dict[str, Any] = {}
        ray.get(self._gate.open.remote(self._directory.name))

    def step(self) -> dict[str, Any]:
        """The metrics of the next epoch."""
        history = read_metrics(self._directory)
        if self._job is None and history and not self._last:
            # A run that died may have trained this epoch without hearing the scheduler's decision on it.
            return self._result(history[-1])
        if self._job is None:
            self._job = _Job(
                _trainer(self._shared, self._gate, self._configuration, self._directory, self._until).fit, self._end_job
            )
            self._job.start()
        else:
            self._decide(go_on=True)
        metrics = ray.get(self._gate.next.remote(self._directory.name))
        return self._result(metrics) if metrics is not None else self._failed(self._job)

    def _result(self, metrics: dict[str, Any]) -> dict[str, Any]:
        self._last = metrics
        return metrics | {"done": metrics["epoch"] >= self._until}

    def _failed(self, job: _Job) -> dict[str, Any]:
        """The result of a job that ended before its last epoch; raises its error where a retry may help."""
        import ray.train

        from nmt.train import DivergedError

        error = job.error or RuntimeError("the Ray Train job ended before the last epoch")
        workers = error.worker_failures.values() if isinstance(error, ray.train.WorkerGroupError) else ()
        known = [failure for failure in workers if isinstance(failure, DivergedError | UserError)]
        if not known:
            raise error
        return failure(known[0], self._directory) | {"done": True}

    def _decide(self, *, go_on: bool) -> None:
        ray.get(self._gate.decide.remote(self._directory.name, go_on))

    def _end_job(self) -> None:
        ray.get(self._gate.end.remote(self._directory.name))

    def cleanup(self) -> None:
        """End the job: the workers, which wait for a decision, leave. Called by Ray Tune for stopped trials."""
        if self._job is not None:
            self._decide(go_on=False)
            self._job.join(STOP_SECONDS)


class _Job(threading.Thread):
    """`work` in a thread that dies with the process; `error` is what it raised; `at_end` is called in any case."""

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


def _trainer(setup: TrialSetup, gate: Any, config: Config, directory: Path, until: int) -> Any:
    import ray.train
    from ray.train.torch import TorchConfig, TorchTrainer

    resources = setup.resources
    return TorchTrainer(
        _train_on_worker,
        train_loop_config={"setup": setup, "gate": gate, "config": config, "directory": directory, "until": until},
        torch_config=TorchConfig(backend="nccl" if resources.gpus else "gloo"),
        scaling_config=ray.train.ScalingConfig(
            num_workers=resources.workers,
            use_gpu=resources.gpus > 0,
            resources_per_worker={"CPU": resources.cpus} | ({"GPU": resources.gpus} if resources.gpus else {}),
        ),
        run_config=ray.train.RunConfig(
            name=f"{directory.name}-{until}",  # a name that ended would be taken for the same job
            storage_path=str(setup.directory / "ray" / "train"),
            # Retries are Ray Tune's. The controller's own default is to try for ever where workers cannot start.
            failure_config=ray.train.FailureConfig(max_failures=0, controller_failure_limit=2),  # type: ignore[call-arg]
        ),
    )


class _StoppedError(Exception):
    """The search stopped this trial."""


def _train_on_worker(job: dict[str, Any]) -> None:
    """One rank of the training; rank 0 speaks with the gate for all."""
    import torch
    import torch.distributed as dist

    import nmt.train

    setup, gate, trial = job["setup"], job["gate"], job["directory"].name
    first = dist.get_rank() == 0
    if first:
        ray.get(gate.reserve.remote(trial, ray.util.get_current_placement_group()))

    def on_epoch(report: nmt.train.EpochReport) -> None:
        decision = [ray.get(gate.report.remote(trial, report.metrics)) if first else None]
        dist.broadcast_object_list(decision)
        if not decision[0]:
            raise _StoppedError

    torch.set_num_threads(setup.resources.cpus)
    with contextlib.suppress(_StoppedError):
        nmt.train.train(
            job["config"],
            data=setup.data,
            directory=job["directory"],
            on_epoch=on_epoch,
            resume=True,
            until=job["until"],
            decode_grid=setup.decode_grid,
        )
