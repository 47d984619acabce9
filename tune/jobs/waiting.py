"""What a training waits for while it has no resources, in words: since when, and why the cluster does not grow."""

from __future__ import annotations

import re
import time
from datetime import datetime

import ray
from ray._private import ray_constants
from ray.autoscaler._private.commands import debug_status
from ray.experimental.internal_kv import _internal_kv_get

from nmt.errors import one_line
from tune.spaces.settings import Resources

QUIET_SECONDS = 10.0
"""a shorter wait is not worth a line"""
LOOK_SECONDS = 20.0
"""time between two looks at what the autoscaler says"""
AGAIN_SECONDS = 600.0
"""time after which the same line is printed again"""
MAX_FAILURE = 160
"""characters of the autoscaler's reason"""


class Wait:
    """One wait for the resources of some workers.

    Args:
        quiet: seconds that the wait may take before its first line.
    """

    def __init__(self, workers: int, resources: Resources, *, quiet: float | None = None) -> None:
        self._workers, self._resources = workers, resources
        self._since, now = datetime.now(), time.monotonic()
        self._look = now + (QUIET_SECONDS if quiet is None else quiet)
        self._again = now
        self._failure: str | None = None

    def news(self) -> str | None:
        """Return a line for the user: at first, when the autoscaler's reason changes, and every ten minutes."""
        now = time.monotonic()
        if now < self._look:
            return None
        self._look = now + LOOK_SECONDS
        failure = launch_failure()
        if now < self._again and failure == self._failure:
            return None
        self._again, self._failure = now + AGAIN_SECONDS, failure
        workers = f"{self._workers} worker{'s' * (self._workers > 1)}"
        parts = [f"the cluster has {_free(self._resources)} free", *([failure] if failure else [])]
        return f"waits for {workers} since {self._since:%H:%M} ({'; '.join(parts)})"


def _free(resources: Resources) -> str:
    """Return how much of what is waited for is free: "1 of 2 CPUs"."""
    free, total = ray.available_resources(), ray.cluster_resources()
    return " and ".join(
        f"{free.get(kind, 0.0):g} of {total.get(kind, 0.0):g} {kind}s"
        for kind in (("CPU", "GPU") if resources.gpus else ("CPU",))
    )


def launch_failure() -> str | None:
    """Return why the autoscaler could not start its last node; None if it could, or there is none."""
    try:
        keys = (ray_constants.DEBUG_AUTOSCALING_STATUS, ray_constants.DEBUG_AUTOSCALING_ERROR)
        status, error = (_internal_kv_get(key) for key in keys)
        text = debug_status(status, error, verbose=True, address=ray.get_runtime_context().gcs_address)
    except Exception as error:  # whatever it is, a line for the user must not end a training
        return f"the autoscaler's state cannot be read: {one_line(error)}"[:MAX_FAILURE]
    return failure_in(text)


def failure_in(status: str) -> str | None:
    """Return the newest failed launch that a text of `ray status` names: node type, kind and reason."""
    _, _, failures = status.partition("Recent failures:\n")
    pattern = r" (?P<node>\S+): (?P<kind>\w[\w.]*) \(latest_attempt: [\d:]+\)(?: - (?P<why>.*))?"
    found = re.match(pattern, next((line for line in failures.splitlines() if "(latest_attempt: " in line), ""))
    if found is None:
        return None
    why = found["why"] or ""
    shown = why if found["kind"] in why else f"{found['kind']}{': ' * bool(why)}{why}"
    return f"{found['node']}: {shown}"[:MAX_FAILURE]
