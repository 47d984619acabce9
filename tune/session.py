"""What a search runs in: Ray on this machine or a cluster, its resources, one process a directory, Ctrl-C."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ray
import ray.tune

from nmt.errors import UserError
from tune.cluster.growth import may_start
from tune.jobs.epoch_gate import open_gate
from tune.spaces.settings import Resources

ENVIRONMENT = {
    # Our directory holds the state; Ray's snapshots of it are never read again.
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    # A reused process may take this long to leave its last trial (closing its files); past it the next one fails.
    "TUNE_FUNCTION_THREAD_TIMEOUT_S": "60",
    # Paths in a configuration are relative to where the command was typed.
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    # Ctrl-C is ours, see Interruption.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    # Ray Train's own waits: a third of the 33 s a trial with several workers takes to come and go.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.1",
    # That there is room has been seen before (tune.group); a node that has gone since is not waited for.
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "20",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_STATE_ACTOR_RECONCILIATION": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
}
PASSED_ON = ("AWS_ENDPOINT_URL", "AWS_REGION", "AWS_DEFAULT_REGION")
"""what a storage's address means here, it means on every node; keys and secrets are each node's own"""
LOCK = ".lock"


@contextlib.contextmanager
def ray_session() -> Iterator[None]:
    """Ray, quiet: the cluster at RAY_ADDRESS, or one on this machine that ends with the search."""
    os.environ.update(ENVIRONMENT)
    passed_on = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    started = not ray.is_initialized()
    if started:
        ray.init(
            address=os.environ.get("RAY_ADDRESS", "local"),
            runtime_env={"env_vars": ENVIRONMENT | passed_on},
            log_to_driver=False,
            logging_level=logging.ERROR,
            include_dashboard=False,
        )
    logging.getLogger("ray").setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        if started:
            ray.shutdown()


@contextlib.contextmanager
def workers_gate(resources: Resources) -> Iterator[Any]:
    """Where the workers of trials of several report; None for trials of one."""
    if resources.workers == 1:
        yield None
        return
    with open_gate() as gate:
        yield gate


class LockedError(UserError):
    """Another process works in the directory."""


@contextlib.contextmanager
def only_one(directory: Path) -> Iterator[None]:
    """The directory, made if absent, for this process alone; the system frees it when the process dies."""
    directory.mkdir(parents=True, exist_ok=True)
    with open(directory / LOCK, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LockedError(f"{directory}: another process runs a search here; wait for it or stop it") from None
        yield


def concurrency(resources: Resources, nodes: list[dict[str, float]]) -> int:
    """How many trials run at once, each with all its workers, on nodes with these resources.

    One where there is room for less than that, but for its fewest workers. Raises UserError if not even so.
    """
    workers = room(resources, nodes)
    if workers >= resources.fewest:
        return max(workers // resources.workers, 1)
    needed = f"{resources.cpus} CPUs" + (f" and {resources.gpus:g} GPUs" if resources.gpus else "")
    there = "; ".join(f"{n.get('CPU', 0):g} CPUs, {n.get('GPU', 0):g} GPUs" for n in nodes)
    raise UserError(
        f"not enough resources for one trial: it takes {resources.fewest} worker{'s' * (resources.fewest > 1)} "
        f"of {needed} ([resources]), and there are {there}"
    )


def room(resources: Resources, nodes: list[dict[str, float]]) -> int:
    """How many workers fit on the nodes."""
    return sum(_workers_on(resources, node) for node in nodes)


def _workers_on(resources: Resources, node: dict[str, float]) -> int:
    fit = node.get("CPU", 0) // resources.cpus
    return int(min(fit, node.get("GPU", 0) // resources.gpus) if resources.gpus else fit)


def node_resources() -> list[dict[str, float]]:
    """Of every node, those included that an autoscaler may still start."""
    there = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return there + may_start(len(there) - 1)


class Interruption(ray.tune.Stopper):
    """Ctrl-C, SIGTERM, or a reason of the search's own: the search ends, to be resumed; a second signal acts at once.

    Args:
        flag: which trials look at between their steps.
        say: takes each line for the user.
    """

    def __init__(self, flag: Any, say: Callable[[str], None]) -> None:
        self._flag, self._say = flag, say
        self._told = False
        self.came = False
        self.reason: str | None = None
        """why the search stopped itself"""

    @contextlib.contextmanager
    def caught(self) -> Iterator[Interruption]:
        """While this is open; in the main thread, for others have no signals."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _note(self, number: int, frame: Any) -> None:
        if self.came:
            raise KeyboardInterrupt
        self.came = True
        self._say("interrupted: the trials write their checkpoints, some seconds; again: at once")

    def stop(self, reason: str) -> None:
        """End the search for this reason."""
        self.came, self.reason = True, reason

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        """Asked by Ray Tune at each of its steps."""
        if self.came and not self._told:
            self._told = True
            self._flag.raise_it.remote()
        return False  # the trials end themselves, and no other starts
