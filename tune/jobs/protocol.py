"""Messages between the driver of a search and the jobs of its trials.

A job trains in its trial's folder, which is the only record of what was trained. It reports an `event` to Ray Tune,
which says no more than "read the folder of this trial". The driver then reads the folder (tune.driver.recorder). So a
lost event loses no epoch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nmt.config import DecodeConfig
from nmt.data.store.ready import ReadyData
from nmt.training.history import METRIC, read_metrics
from tune.results.layout import trial_folder
from tune.results.storage import Storage
from tune.spaces.settings import Resources

FAILURE = "failure"
"""key of an event that ends its trial as failed; its value is the reason"""

NOTE = "note"
"""key of an event with a line for the user"""

INTERRUPTED = "interrupted"
"""key of an event that ends a job because the search was asked to stop; --resume resumes its trial"""


@dataclass(frozen=True, kw_only=True)
class TrialSetup:
    """Everything that the trials of a search share."""

    data: str | ReadyData
    """the Arrow data set: an absolute path or an address, copied to a node by its first job; or one that was checked"""
    directory: Path
    """directory of the search"""
    decode_grid: tuple[DecodeConfig, ...]
    val_f1: bool = False
    """True: every epoch measures val/f1, for an objective"""
    resources: Resources
    storage: Storage | None
    """the storage of the search; None if `directory` is its only place"""
    control: Any
    """the actor that knows if the search is to stop (tune.jobs.control)"""


def trial_directory(setup: TrialSetup, trial: Mapping[str, Any]) -> Path:
    """Return the directory that a trial trains in."""
    return setup.directory / trial_folder(trial["number"])


def event(setup: TrialSetup, trial: Mapping[str, Any], metrics: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return what a job reports to Ray Tune: the number of its trial, and its last epoch and metric.

    Epoch and metric are only for the schedulers that stop trials (tune.driver.early_stopping), which see nothing but
    results. Everything else must read the trial's folder.

    Args:
        metrics: those of the last epoch, if the caller has them. By default they are read from the trial's folder,
            which may be behind if a worker on another node wrote it.
    """
    last = metrics or (read_metrics(trial_directory(setup, trial)) or [{}])[-1]
    return {"number": trial["number"], "epoch": last.get("epoch", 0), METRIC: last.get(METRIC, math.nan)}


def failure(setup: TrialSetup, trial: Mapping[str, Any], error: Exception) -> dict[str, Any]:
    """Return the event of a trial that failed and would fail again if retried."""
    return event(setup, trial) | {FAILURE: str(error), METRIC: math.nan}


def interrupted(setup: TrialSetup, trial: Mapping[str, Any]) -> dict[str, Any]:
    """Return the event of a job that ended because the search was asked to stop."""
    return event(setup, trial) | {INTERRUPTED: True, METRIC: math.nan}


def packed_config(jobs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return one Ray Tune configuration for several jobs: the first job, with all of them under "pack".

    A single job stays as it is.
    """
    return dict(jobs[0]) if len(jobs) == 1 else {**jobs[0], "pack": [dict(job) for job in jobs]}


def members(config: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the jobs of a configuration that `packed_config` made."""
    pack: list[Mapping[str, Any]] = config.get("pack", [config])
    return pack
