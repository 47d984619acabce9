"""Find room for the workers of a training: wait for it before a job, and ask for more while one runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from ray.util.placement_group import PlacementGroup

from tune.jobs.reservations import release, reserve
from tune.jobs.waiting import Wait
from tune.spaces.settings import Resources

PATIENCE_SECONDS = 2.0
"""time that a training with its fewest workers waits for more before it begins"""
SPARE = 0
"""job number of what is reserved while a job runs"""


class Room:
    """The resources that one training asks for.

    Args:
        training: its name in reservations.
        name: of the training at the control actor.
        waits: prints a line while the training waits; None where the driver asks the control actor.
    """

    def __init__(
        self, resources: Resources, training: str, *, control: Any, name: str, waits: Callable[[str], None] | None
    ) -> None:
        self._resources, self._training = resources, training
        self._control, self._name, self._waits = control, name, waits
        self._spares: list[PlacementGroup] = []

    def find(self, number: int, *, stopped: Callable[[], bool]) -> int:
        """Return the number of workers that fit, up to the full size. Whatever the training held is released.

        Waits until the fewest workers fit, without a limit: an autoscaler may take minutes to start a node.

        Args:
            number: of the job that is to use the room.
            stopped: True when it is not needed any more.
        """
        release(self._training)
        self._spares = []
        bundle, fewest = worker_bundle(self._resources), self._resources.fewest
        try:
            self._await(reserve([bundle] * fewest, self._training, number), stopped)
            # Not before: they would take what the fewest need.
            more = [reserve([bundle], self._training, number) for _ in range(self._resources.workers - fewest)]
            deadline = time.monotonic() + PATIENCE_SECONDS
            return fewest + sum(group.wait(max(deadline - time.monotonic(), 0.01)) for group in more)
        finally:
            release(self._training, number)

    def _await(self, group: PlacementGroup, stopped: Callable[[], bool]) -> None:
        """Wait until the group is there, and tell the user."""
        wait, line = Wait(self._resources.fewest, self._resources), None
        while not stopped() and not group.wait(1):
            if (news := wait.news()) is not None:
                line = news
                if self._waits is not None:
                    self._waits(news)
            self._control.waits.remote(self._name, line)

    def ask_for_more(self, workers: int) -> None:
        """Ask for the missing workers' resources ahead of time. An autoscaler also sees the request."""
        if not self._spares:
            bundle = worker_bundle(self._resources)
            self._spares = [reserve([bundle], self._training, SPARE) for _ in range(self._resources.workers - workers)]

    def more(self) -> int:
        """Return the number of missing workers for which there is room now."""
        return sum(group.wait(0.01) for group in self._spares)

    def give_back(self) -> None:
        """Release what `ask_for_more` has reserved."""
        if self._spares:
            release(self._training, SPARE)
        self._spares = []


def worker_bundle(resources: Resources) -> dict[str, float]:
    """Return the resources of one worker under Ray's names."""
    return {"CPU": float(resources.cpus)} | ({"GPU": resources.gpus} if resources.gpus else {})
