"""How the trainings of a run are told to stop: one small actor that all of them ask.

Every training asks between its steps whether the whole run is to stop (`Asked`). Data-parallel workers also ask it at
the end of each epoch whether to train another one: early stopping must reach them, and Ray Train has no way to end a
job from outside. Where the process around a job just dies, the resources of its workers stay reserved (Ray Train's
cleaner asks the dashboard, which need not be there); the actor knows them and gives them back.
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
ANSWER_SECONDS = 30.0


@dataclass
class _Room:
    """What passes between one job of a training and its workers."""

    job: int
    epochs: asyncio.Queue[dict[str, Any] | None] = field(default_factory=asyncio.Queue)
    """metrics of each epoch; None when the job has ended"""
    decisions: asyncio.Queue[bool] = field(default_factory=asyncio.Queue)
    """for each epoch whether to go on"""
    stopped: asyncio.Event = field(default_factory=asyncio.Event)
    """the workers are to save and leave as soon as they can"""
    reserved: PlacementGroup | None = None
    """the workers' resources"""


class Control:
    """The actor. For data-parallel trainings, workers report each epoch here and hear whether to train another one.

    A data-parallel training is known by its name and has one job of workers at a time; a call from an earlier job
    fails.
    """

    def __init__(self) -> None:
        self._rooms: dict[str, _Room] = {}
        self._jobs = 0
        self._stopping = False

    async def stop_all(self) -> None:
        """Tell every training of the run to save and end."""
        self._stopping = True

    async def stopping(self) -> bool:
        """Return whether the run was told to stop."""
        return self._stopping

    async def open(self, name: str) -> int:
        """A job begins, here is its number; what an earlier one of the training left behind is given back."""
        await self.close(name)
        self._jobs += 1
        self._rooms[name] = _Room(self._jobs)
        return self._jobs

    async def close(self, name: str) -> None:
        """A training has ended; resources its workers still hold are given back, and with them the workers end."""
        room = self._rooms.pop(name, None)
        if room is not None and room.reserved is not None:
            ray.util.remove_placement_group(room.reserved)

    async def reserve(self, name: str, job: int, group: PlacementGroup) -> None:
        """From the workers: the resources they run on."""
        self._room(name, job).reserved = group

    async def report(self, name: str, job: int, metrics: dict[str, Any]) -> bool:
        """From rank 0: an epoch is over; waits for the decision whether to go on."""
        room = self._room(name, job)
        room.epochs.put_nowait(metrics)
        return await room.decisions.get()

    async def stopped(self, name: str, job: int) -> None:
        """From rank 0: returns when the workers are to leave."""
        await self._room(name, job).stopped.wait()

    async def end(self, name: str, job: int) -> None:
        """The job has ended, by itself or by an error, and holds nothing any more."""
        room = self._rooms.get(name)
        if room is not None and room.job == job:
            room.reserved = None
            room.epochs.put_nowait(None)

    async def next(self, name: str) -> dict[str, Any] | None:
        """The metrics of the training's next epoch, None when its job has ended."""
        return await self._rooms[name].epochs.get()

    async def decide(self, name: str, go_on: bool) -> None:
        """The answer to an epoch."""
        self._rooms[name].decisions.put_nowait(go_on)

    async def stop(self, name: str) -> None:
        """The workers are to save and leave: in the middle of an epoch, or at its end where they wait."""
        if name in self._rooms:
            self._rooms[name].stopped.set()
            self._rooms[name].decisions.put_nowait(False)

    def _room(self, name: str, job: int) -> _Room:
        room = self._rooms[name]
        if room.job != job:
            raise LookupError(f"job {job} of {name} has been followed by job {room.job}")
        return room


@contextlib.contextmanager
def open_control() -> Iterator[Any]:
    """Start the actor, on the driver's own node: a node that joins later may leave at any moment.

    Ray starts it again should its process die. It has then forgotten the rooms, so the job of a data-parallel training
    fails and is tried again; and a wish to stop, which the driver repeats.
    """
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    control: Any = ray.remote(Control).options(num_cpus=0, max_restarts=-1, scheduling_strategy=here).remote()
    try:
        yield control
    finally:
        ray.kill(control)


class Asked:
    """Whether the run was told to stop, for a loop of steps: asks once a second. False where nobody answers."""

    def __init__(self, control: Any) -> None:
        self._control = control
        self._looked = time.monotonic()

    def __call__(self) -> bool:
        if time.monotonic() - self._looked < POLL_SECONDS:
            return False
        try:
            return bool(ray.get(self._control.stopping.remote(), timeout=ANSWER_SECONDS))
        except (ray.exceptions.RayActorError, ray.exceptions.GetTimeoutError):
            return False
        finally:
            self._looked = time.monotonic()
