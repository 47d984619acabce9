"""The metrics and pictures of a training in MLflow: at MLFLOW_TRACKING_URI, or in the folder `mlruns` of the search."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from nmt.training.files import MLFLOW_STORE
from nmt.training.logger import Run

DEFAULTS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ALLOW_FILE_STORE": "true",
}
"""MLflow's own settings where the user has none: an absent server is found out in seconds, not in minutes"""
RESERVED = re.compile(r"[^\w\-./ :]")
"""characters that MLflow allows in no name"""
BATCH = 100
"""parameters that MLflow takes at once"""


class MlflowLog:
    """A run of MLflow, in an experiment named like the search. A resumed training continues its run."""

    def __init__(self, run: Run) -> None:
        for name, value in DEFAULTS.items():
            os.environ.setdefault(name, value)
        import mlflow
        from mlflow.entities import Param

        self._mlflow = mlflow
        self._client = mlflow.MlflowClient(tracking_uri=_address(run.root))
        known, keep = run.identity("mlflow")
        if known is not None:
            self._id = known
            self._client.update_run(known, status="RUNNING")
            return
        experiment = self._experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME") or run.group)
        self._id = self._client.create_run(experiment, run_name=run.name, tags={"group": run.group}).info.run_id
        keep(self._id)
        params = [Param(key, str(value)) for key, value in run.config.items()]
        for start in range(0, len(params), BATCH):
            self._client.log_batch(self._id, params=params[start : start + BATCH])
        for metrics in run.history:  # the logger was added when the training was resumed
            self.scalars({key: value for key, value in metrics.items() if key != "epoch"}, metrics["epoch"])

    def scalars(self, values: Mapping[str, Any], epoch: int) -> None:
        """Log the numbers among the metrics of an epoch."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        numbers = {name: float(value) for name, value in values.items() if isinstance(value, int | float)}
        metrics = [Metric(name_of(metric), value, now, epoch) for metric, value in numbers.items()]
        self._client.log_batch(self._id, metrics=metrics)

    def picture(self, name: str, image_HW3: np.ndarray, epoch: int, caption: str) -> None:
        """Log a picture as a file of the run."""
        self._client.log_image(self._id, image_HW3, artifact_file=f"{name}/{epoch:04d}.png")

    def close(self) -> None:
        """Mark the run as ended; a resumed training opens it again."""
        self._client.set_terminated(self._id, "FINISHED")

    def _experiment(self, name: str) -> str:
        """Return the id of an experiment, which is made if it is not there."""
        found = self._client.get_experiment_by_name(name)
        if found is None:
            try:
                return str(self._client.create_experiment(name))
            except self._mlflow.MlflowException:  # another trial of the search was faster
                found = self._client.get_experiment_by_name(name)
                if found is None:
                    raise
        return str(found.experiment_id)


def name_of(metric: str) -> str:
    """Return the name of a metric in MLflow: val/accuracy, val/accuracy.CATEGORY.

    MLflow's folders cannot hold val/accuracy/CATEGORY beside val/accuracy.
    """
    group, slash, rest = metric.partition("/")
    return RESERVED.sub("_", group + slash + rest.replace("/", "."))


def _address(root: Path) -> str:
    """Return the address of the server or folder that MLflow writes to."""
    return os.environ.get("MLFLOW_TRACKING_URI") or (root / MLFLOW_STORE).as_uri()
