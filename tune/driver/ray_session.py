"""Start Ray for a search, or connect to its cluster, with the environment that all its processes need."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator

import ray
import ray._private.worker
import ray.tune
from ray._common.utils import get_default_ray_temp_dir
from ray._private import ray_constants

from nmt.errors import FailedError, UserError, one_line
from nmt.extensions import VARIABLE
from tune.cluster.access import secure_local_ray
from tune.driver.ray_watch import LocalRay, RayWatch, connected_cluster

ENVIRONMENT = {
    # The folder of the search holds its state. Ray's own snapshots are never read, so take none.
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    # Time that a reused process has to end its last trial (closing files). After that the next trial would fail.
    "TUNE_FUNCTION_THREAD_TIMEOUT_S": "60",
    # Paths in a configuration are relative to where the command was typed.
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    # `Interruption` handles Ctrl-C.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    # Ray Train polls its workers every 2 s by default, and every report waits for it. This and the three RAY_TRAIN keys
    # without a comment shorten a trial of several workers by 13 of 33 s.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.1",
    # tune.jobs.worker_group has found room already. Do not wait long for a node that has left since.
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "20",
    # A worker that does not answer for so long is frozen. By default 10 minutes.
    "RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S": "60",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    # Every interruption comes to tune.driver.recorder, which counts; else Ray would retry some by itself.
    "RAY_TRAIN_COUNT_PREEMPTION_AS_FAILURE": "1",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_STATE_ACTOR_RECONCILIATION": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
}
PASSED_ON = ("AWS_ENDPOINT_URL", "AWS_REGION", "AWS_DEFAULT_REGION", "HF_ENDPOINT", "HF_HUB_OFFLINE", VARIABLE)
"""variables sent to every node, so that addresses and extensions mean the same there; secrets are not sent"""
LOCAL = "local"
"""Ray's word for a cluster of this machine alone"""
AGAIN = "continue with --resume"
CONNECT_SECONDS = 10.0
"""how long the head of a cluster may take to accept a connection; Ray itself would try for minutes"""


def check_reachable(address: str) -> None:
    """Check that something listens at an address of a cluster.

    Args:
        address: HOST:PORT, or ray://HOST:PORT; other forms are left to Ray.

    Raises:
        UserError: nothing accepts a connection there.
    """
    host, _, port = address.rpartition("://")[2].partition("/")[0].rpartition(":")
    if not host or not port.isdecimal():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise UserError(
            f"RAY_ADDRESS={address}: no Ray head answers there ({one_line(error)}); start the cluster, correct the "
            "address, or unset RAY_ADDRESS to use this machine alone"
        ) from error


@contextlib.contextmanager
def _signals_for_ray() -> Iterator[None]:
    """Decide in the block which signals the processes that start in it ignore for ever.

    They ignore SIGHUP: a closed terminal sends it to them too, and they must outlive it, so that trials can save. They
    do not ignore SIGINT, as a job in the background of a script does: Ray interrupts a task by it.
    """
    if not hasattr(signal, "SIGHUP") or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {signal.SIGHUP: signal.signal(signal.SIGHUP, signal.SIG_IGN)}
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        before[signal.SIGINT] = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _on_loopback() -> Iterator[None]:
    """Let the processes of a local Ray, which start in the block, listen on 127.0.0.1 alone.

    Ray does so on Windows and macOS, where it has no clusters. On Linux it would listen on every network, and whoever
    reaches a port of Ray can run code.
    """
    ray_constants.ENABLE_RAY_CLUSTER = False  # read from the environment once, when Ray was imported
    os.environ[ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR] = "0"
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = True
        del os.environ[ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR]


def _nothing(*lines: object, **options: object) -> None:
    """Print nothing: Ray's own account of a dead process is many lines long."""


@contextlib.contextmanager
def ray_session(*, again: str = AGAIN) -> Iterator[None]:
    """Connect to the cluster at RAY_ADDRESS, or start Ray on this machine until the block ends. Ray prints nothing.

    If Ray itself dies, the process ends with status 1 and a line (tune.driver.ray_watch).

    Args:
        again: how to continue then, for that line.

    Raises:
        UserError: nothing answers at RAY_ADDRESS, or a Ray of this machine cannot keep its files.
        FailedError: a Ray of this machine does not start.
    """
    os.environ.update(ENVIRONMENT)
    if ray.is_initialized():
        yield
        return
    address = os.environ.get("RAY_ADDRESS", LOCAL)
    check_reachable(address)
    ray._private.worker.print_to_stdstream = _nothing
    try:
        if address == LOCAL:
            secure_local_ray()
            with RayWatch(LocalRay(), again=again).running():
                with _signals_for_ray(), _on_loopback():
                    _start()
                yield
        else:
            _connect(address)
            with RayWatch(connected_cluster(), again=again).running():
                yield
    finally:
        ray.shutdown()


def _start() -> None:
    """Start Ray on this machine.

    Raises:
        UserError: it cannot keep its files in its folder.
        FailedError: it does not start for another reason.
    """
    try:
        _connect(LOCAL)
    except Exception as error:
        folder = get_default_ray_temp_dir()
        if isinstance(error, OSError) and not isinstance(error, ConnectionError):
            raise UserError(
                f"{folder}: Ray cannot keep its files there ({one_line(error)}); set RAY_TMPDIR to a folder that can "
                "be written and has a short path"
            ) from error
        raise FailedError(
            f"Ray does not start on this machine ({one_line(error)}); see {folder}/session_latest/logs"
        ) from error


def _connect(address: str) -> None:
    passed_on = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    ray.init(
        address=address,
        runtime_env={"env_vars": ENVIRONMENT | passed_on},
        log_to_driver=False,
        logging_level=logging.ERROR,
        include_dashboard=False,
    )
    logging.getLogger("ray").setLevel(logging.CRITICAL)
