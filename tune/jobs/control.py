"""The actor that stops the trainings of a run: every training asks it.

A training asks between its steps if the whole run is to stop (`Asked`). A data-parallel training also meets its workers
here, after each epoch: early stopping must reach them, and Ray Train has no way to end a job from outside.

The actor may die at any moment: Ray starts it again, without what it knew. So whoever calls it repeats what it needs to
know in each call, and calls again (`ask`). A call is the same when it comes twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import ray
import ray.exceptions
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from tune.jobs.spot import node_watch

POLL_SECONDS = 1.0
"""time between two questions to the actor"""
ANSWER_SECONDS = 1.0
"""wait for its answer; a training runs on without one"""
FORGET_SECONDS = 30.0
"""time after which an actor that does not answer is asked again"""
WAIT_SECONDS = 5.0
"""time after which a call answers in any case: the training then shows that it lives, and calls again"""
SIGN_SECONDS = 60.0
"""time after which a sign of life says nothing any more"""
PATIENCE_SECONDS = 300.0
"""time that the actor has to come back; its node has ended if it does not"""


@dataclass
class _Channel:
    """The channel between one job of a training and its workers."""

    job: int
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    metrics: dict[str, Any] | None = None
    """of the last epoch that the workers reported"""
    wanted: int = 0
    """workers may train on after epochs up to this one"""
    begun: bool = False
    """True once all workers run"""
    stopped: bool = False
    """True when the workers are to save and end as soon as they can"""
    ended: bool = False
    """True once the job has ended, or another has taken its place"""
    controller: Any = None
    """Ray Train's actor that drives the job"""


@dataclass(frozen=True)
class Reply:
    """What a training hears of its job."""

    metrics: dict[str, Any] | None
    """of the next epoch, once it has ended"""
    begun: bool
    """True if all workers run"""
    first_seconds: float | None
    """limit of the first report of a job; None if the driver has not told"""


@dataclass(frozen=True)
class Sign:
    """A sign of life of a training by several workers."""

    ago: float
    """seconds since then"""
    waits: str | None
    """what it waits for, in words; None if it does not wait, or not long"""


class Control:
    """The actor, with one channel per data-parallel training.

    A training is known by its name and has one job of workers at a time: the one with the highest number. A call from
    an earlier job fails.
    """

    def __init__(self) -> None:
        self._channels: dict[str, _Channel] = {}
        self._signs: dict[str, tuple[float, str | None]] = {}
        self._first_seconds: float | None = None
        self._stopping = False

    async def stop_all(self) -> None:
        """Ask every training of the run to save and end."""
        self._stopping = True

    async def stopping(self) -> bool:
        """Return True once the run was asked to stop."""
        return self._stopping

    async def signs(self, first_seconds: float) -> dict[str, Sign]:
        """Return the last sign of life of each training. Called by the driver of a search.

        Args:
            first_seconds: limit of the first report of a job, for all trainings.
        """
        self._first_seconds, now = first_seconds, time.monotonic()
        self._signs = {name: sign for name, sign in self._signs.items() if now - sign[0] < SIGN_SECONDS}
        return {name: Sign(now - heard, waits) for name, (heard, waits) in self._signs.items()}

    async def waits(self, name: str, line: str | None = None) -> None:
        """Record that a training waits for resources."""
        self._signs[name] = (time.monotonic(), line)

    async def open(self, name: str, job: int) -> None:
        """Begin a job of a training, which ends an earlier one."""
        await self._channel(name, job)

    async def close(self, name: str, job: int | None = None) -> None:
        """End a training, or one job of it."""
        channel = self._channels.get(name)
        if channel is None or job not in (None, channel.job):
            return
        del self._channels[name]
        self._signs.pop(name, None)
        await _end(channel)

    async def driven(self, name: str, job: int, controller: Any) -> None:
        """Record Ray Train's actor of a job, which ends with the job in any case."""
        (await self._channel(name, job)).controller = controller

    async def report(self, name: str, job: int, metrics: dict[str, Any]) -> bool:
        """Record the metrics of an epoch, and wait for the decision to train another one. Called by rank 0."""
        channel = await self._channel(name, job)
        if channel.wanted < metrics["epoch"]:
            await _change(channel, metrics=metrics, begun=True)
        async with channel.changed:
            await channel.changed.wait_for(
                lambda: channel.stopped or channel.ended or channel.wanted >= metrics["epoch"]
            )
        return not (channel.stopped or channel.ended)

    async def stopped(self, name: str, job: int) -> bool:
        """Wait a while until the workers are to stop; return True if they are. Called by rank 0 from its start."""
        channel = await self._channel(name, job)
        await _change(channel, begun=True)
        await _wait(channel, lambda: channel.stopped or channel.ended)
        return channel.stopped or channel.ended

    async def ended(self, name: str, job: int) -> None:
        """Record that the job has ended, with or without an error."""
        await _change(await self._channel(name, job), ended=True)

    async def next(self, name: str, job: int, after: int, stop: bool) -> Reply:
        """Let the workers train on after epoch `after`, and wait a while for the metrics of the next one.

        Args:
            stop: ask the workers to save and end: in the middle of an epoch, or at its end if they wait there.
        """
        channel = await self._channel(name, job)
        self._signs[name] = (time.monotonic(), None)
        await _change(channel, wanted=after, stopped=channel.stopped or stop)

        def metrics() -> dict[str, Any] | None:
            return channel.metrics if channel.metrics is not None and channel.metrics["epoch"] != after else None

        await _wait(channel, lambda: channel.ended or metrics() is not None)
        return Reply(metrics(), channel.begun, self._first_seconds)

    async def stop(self, name: str, job: int) -> None:
        """Ask the workers to save and end."""
        await _change(await self._channel(name, job), stopped=True)

    async def _channel(self, name: str, job: int) -> _Channel:
        channel = self._channels.get(name)
        if channel is not None and channel.job > job:
            raise LookupError(f"job {job} of {name} was replaced by job {channel.job}")
        if channel is None or channel.job < job:  # a new job, or this actor was started again since
            earlier, self._channels[name] = channel, _Channel(job)
            channel = self._channels[name]
            if earlier is not None:
                await _end(earlier)
        return channel


async def _end(channel: _Channel) -> None:
    if channel.controller is not None:
        ray.kill(channel.controller)
    await _change(channel, ended=True)


async def _change(channel: _Channel, **values: Any) -> None:
    async with channel.changed:
        for name, value in values.items():
            setattr(channel, name, value)
        channel.changed.notify_all()


async def _wait(channel: _Channel, condition: Callable[[], bool]) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(WAIT_SECONDS), channel.changed:
            await channel.changed.wait_for(condition)


@contextlib.contextmanager
def open_control() -> Iterator[Any]:
    """Start the actor on the driver's own node, because a node that joins later may leave at any moment.

    Ray restarts the actor if its process dies. The driver repeats a request to stop, and the trainings what they need.
    """
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    control: Any = ray.remote(Control).options(num_cpus=0, max_restarts=-1, scheduling_strategy=here).remote()
    try:
        yield control
    finally:
        ray.kill(control)


class Asked:
    """True once the run was asked to stop, or the node is taken away (tune.jobs.spot), for a loop of steps.

    Asks the actor once a second. False while it does not answer; a late answer counts at a later step.
    """

    def __init__(self, control: Any) -> None:
        self._control, self._watch = control, node_watch()
        self._asked = time.monotonic()
        self._answer: Any = None

    def __call__(self) -> bool:
        if self._watch.taken:
            return True
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


def ask(control: Any, method: str, *arguments: Any, seconds: float | None = FORGET_SECONDS) -> Any:
    """Return the answer to a call of the actor. Calls again if its process dies meanwhile.

    Args:
        seconds: time in which the actor answers if it lives. Past it, its process is replaced. None if the answer may
            take any time: another caller then notices.

    Raises:
        RayActorError: the actor does not come back.
        RayTaskError: raised by the call itself.
    """
    deadline = math.inf
    while True:
        try:
            return ray.get(getattr(control, method).remote(*arguments), timeout=seconds)
        except ray.exceptions.GetTimeoutError:
            restart(control)
        except ray.exceptions.RayActorError:
            deadline = min(deadline, time.monotonic() + PATIENCE_SECONDS)
            if time.monotonic() >= deadline:
                raise
            time.sleep(POLL_SECONDS)


def restart(control: Any) -> None:
    """Replace the process of the actor, which does not answer."""
    ray.kill(control, no_restart=False)
