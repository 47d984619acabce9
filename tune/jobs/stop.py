"""How trials hear that the search was asked to stop: one small actor, which they ask between their steps."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

POLL_SECONDS = 1.0
ANSWER_SECONDS = 30.0


class Flag:
    """An actor: down, until it is raised."""

    def __init__(self) -> None:
        self._raised = False

    def raise_it(self) -> None:
        self._raised = True

    def is_raised(self) -> bool:
        return self._raised


@contextlib.contextmanager
def stop_flag() -> Iterator[Any]:
    """The handle of a flag on the driver's own node, which ends with the search if any does."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    flag: Any = ray.remote(num_cpus=0)(Flag).options(scheduling_strategy=here).remote()
    try:
        yield flag
    finally:
        ray.kill(flag)


class Asked:
    """Whether the flag is up, for a loop of steps: looks once a second. False where nobody answers any more."""

    def __init__(self, flag: Any) -> None:
        self._flag = flag
        self._looked = time.monotonic()

    def __call__(self) -> bool:
        if time.monotonic() - self._looked < POLL_SECONDS:
            return False
        try:
            return bool(ray.get(self._flag.is_raised.remote(), timeout=ANSWER_SECONDS))
        except (ray.exceptions.RayActorError, ray.exceptions.GetTimeoutError):
            return False
        finally:
            self._looked = time.monotonic()
