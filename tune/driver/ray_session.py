"""What a search runs in: Ray on this machine or a cluster, its resources, one process a directory, Ctrl-C."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator

import ray
import ray.tune

from nmt.extensions import VARIABLE

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
    # That there is room has been seen before (tune.jobs.worker_group); a node that has gone since is not waited for.
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "20",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_STATE_ACTOR_RECONCILIATION": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
}
PASSED_ON = ("AWS_ENDPOINT_URL", "AWS_REGION", "AWS_DEFAULT_REGION", VARIABLE)
"""what a storage's address or an extension's name means here, it means on every node; keys and secrets are its own"""


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
