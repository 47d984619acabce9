"""Start Ray for a search, or connect to its cluster, with the environment that all its processes need."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator

import ray
import ray.tune

from nmt.extensions import VARIABLE

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
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    # Every interruption comes to tune.driver.recorder, which counts; else Ray would retry some by itself.
    "RAY_TRAIN_COUNT_PREEMPTION_AS_FAILURE": "1",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_STATE_ACTOR_RECONCILIATION": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
}
PASSED_ON = ("AWS_ENDPOINT_URL", "AWS_REGION", "AWS_DEFAULT_REGION", VARIABLE)
"""variables sent to every node, so that addresses and extensions mean the same there; secrets are not sent"""


@contextlib.contextmanager
def ray_session() -> Iterator[None]:
    """Connect to the cluster at RAY_ADDRESS, or start Ray on this machine until the block ends. Ray prints nothing."""
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
