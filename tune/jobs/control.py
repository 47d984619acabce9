"""The actor that stops the trainings of a run: every training asks it.

A training asks between its steps if the whole run is to stop (`Asked`). Data-parallel workers also ask at the end of
each epoch if they may train another one. Early stopping must reach them, and Ray Train has no way to end a job from
outside. If the process around such a job dies, the resources of its workers stay reserved: Ray Train's own cleaner
needs the dashboard, which may be off. The actor knows these resources and releases them.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import ray
import ray.exceptions
import ray.util
from ray.util.placement_group import PlacementGroup
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

POLL_SECONDS = 1.0
"""time between two questions to the actor"""
ANSWER_SECONDS = 1.0
"""wait for its answer; a training runs on without one"""
FORGET_SECONDS = 30.0
"""time after which a question is asked again"""


@dataclass
class _Room:
    """The channel between one job of a training and its workers."""

    job: int
    epochs: asyncio.Queue[dict[str, Any] | None] = field(default_factory=asyncio.Queue)
    """metrics of each epoch; None when the job has ended"""
    decisions: asyncio.Queue[bool] = field(default_factory=asyncio.Queue)
    """one per epoch: True trains another one"""
    stopped: asyncio.Event = field(default_factory=asyncio.Event)
    """set when the workers are to save and end as soon as they can"""
    reserved: PlacementGroup | None = None
    """the workers' resources"""


class Control:
    """The actor, with one channel per data-parallel training.

    Workers report each epoch here and wait for the decision. A training is known by its name and has one job of workers
    at a time. A call from an earlier job fails.
    """

    def __init__(self) -> None:
        self._rooms: dict[str, _Room] = {}
        self._jobs = 0
        self._stopping = False

    async def stop_all(self) -> None:
        """Ask every training of the run to save and end."""
        self._stopping = True

    async def stopping(self) -> bool:
        """Return True once the run was asked to stop."""
        return self._stopping

    async def open(self, name: str) -> int:
        """Begin a job and return its number. Resources of an earlier job of the training are released."""
        await self.close(name)
        self._jobs += 1
        self._rooms[name] = _Room(self._jobs)
        return self._jobs

    async def close(self, name: str) -> None:
        """End a training. Resources that its workers still hold are released, which ends the workers."""
        room = self._rooms.pop(name, None)
        if room is not None and room.reserved is not None:
            ray.util.remove_placement_group(room.reserved)

    async def reserve(self, name: str, job: int, group: PlacementGroup) -> None:
        """Record the resources that the workers run on. Called by rank 0."""
        self._room(name, job).reserved = group

    async def report(self, name: str, job: int, metrics: dict[str, Any]) -> bool:
        """Record the metrics of an epoch, and wait for the decision to train another one. Called by rank 0."""
        room = self._room(name, job)
        room.epochs.put_nowait(metrics)
        return await room.decisions.get()

    async def stopped(self, name: str, job: int) -> None:
        """Wait until the workers are to stop. Called by rank 0."""
        await self._room(name, job).stopped.wait()

    async def end(self, name: str, job: int) -> None:
        """Record that the job has ended, with or without an error, and holds no resources any more."""
        room = self._rooms.get(name)
        if room is not None and room.job == job:
            room.reserved = None
            room.epochs.put_nowait(None)

    async def next(self, name: str) -> dict[str, Any] | None:
        """Wait for the metrics of the training's next epoch; None when its job has ended."""
        return await self._rooms[name].epochs.get()

    async def decide(self, name: str, go_on: bool) -> None:
        """Answer the epoch that was reported last: True trains another one."""
        self._rooms[name].decisions.put_nowait(go_on)

    async def stop(self, name: str) -> None:
        """Ask the workers to save and end: in the middle of an epoch, or at its end if they wait there."""
        if name in self._rooms:
            self._rooms[name].stopped.set()
            self._rooms[name].decisions.put_nowait(False)

    def _room(self, name: str, job: int) -> _Room:
        room = self._rooms[name]
        if room.job != job:
            raise LookupError(f"job {job} of {name} was replaced by job {room.job}")
        return room


@contextlib.contextmanager
def open_control() -> Iterator[Any]:
    """Start the actor on the driver's own node, because a node that joins later may leave at any moment.

    Ray restarts the actor if its process dies. The new process knows neither the jobs nor a request to stop. So the job
    of a data-parallel training fails and is tried again, and the driver repeats the request to stop.
    """
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    control: Any = ray.remote(Control).options(num_cpus=0, max_restarts=-1, scheduling_strategy=here).remote()
    try:
        yield control
    finally:
        ray.kill(control)


class Asked:
    """True once the run was asked to stop, for a loop of steps.

    Asks the actor once a second. False while it does not answer; a late answer counts at a later step.
    """

    def __init__(self, control: Any) -> None:
        self._control = control
        self._asked = time.monotonic()
        self._answer: Any = None

    def __call__(self) -> bool:
        wait = 0.0
        if self._answer is None:
            if time.monotonic() - self._asked < POLL_SECONDS:
                return False
            self._answer, self._asked, wait = self._control.stopping.remote(), time.monotonic(), ANSWER_SECONDS
        if not ray.wait([self._answer], timeout=wait)[0] and time.monotonic() - self._asked < FORGET_SECONDS:
            return False
        answer, self._answer = self._answer, None
        try:
            return bool(ray.get(answer, timeout=0))
        except (ray.exceptions.RayActorError, ray.exceptions.GetTimeoutError):
            return False
