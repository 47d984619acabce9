"""Where the workers of a training meet the process that watches over it.

Early stopping must reach the workers, and Ray Train has no way to end a job from outside: where the process around it
just dies, the resources of its workers stay reserved (its cleaner asks the dashboard, which need not be there). So the
workers ask at the end of each epoch whether to go on, at a `EpochGate`: one small actor for all trainings of a run.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import ray
import ray.util
from ray.util.placement_group import PlacementGroup
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy


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


class EpochGate:
    """An actor where the workers of each training report an epoch and hear whether to go on.

    A training is known by its name, and has one job of workers at a time; what one of an earlier job says fails.
    """

    def __init__(self) -> None:
        self._rooms: dict[str, _Room] = {}
        self._jobs = 0

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
def open_gate() -> Iterator[Any]:
    """A gate, on this node: one that joins later may go at any moment."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    gate: Any = ray.remote(EpochGate).options(num_cpus=0, max_restarts=-1, scheduling_strategy=here).remote()
    try:
        yield gate
    finally:
        ray.kill(gate)
