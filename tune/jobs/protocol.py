"""TODO docstring of tune.jobs.protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nmt.config import DecodeConfig
from nmt.training.history import METRIC, read_metrics
from tune.results.layout import trial_id
from tune.results.storage import Storage
from tune.spaces.settings import Resources

FAILURE = "failure"
"""key of a result that ends its trial as failed, and why"""

NOTE = "note"
"""key of a result with a line for the user"""

INTERRUPTED = "interrupted"
"""key of a result that ends a job because the search was asked to stop; its trial goes on another day"""


@dataclass(frozen=True, kw_only=True)
class TrialSetup:
    """What all trials of a search share."""

    data: str
    """the Arrow data set: an absolute path or an address, copied to a node by its first job"""
    directory: Path
    """of the search"""
    decode_grid: tuple[DecodeConfig, ...]
    resources: Resources
    storage: Storage | None
    """where the search lives, when that is not `directory`"""
    flag: Any
    """up when the search was asked to stop (tune.jobs.stop)"""


def trial_folder(trial: Mapping[str, Any]) -> str:
    """Of a trial, in the directory of the search."""
    return f"trials/{trial_id(trial['number'])}"


def trial_directory(setup: TrialSetup, trial: Mapping[str, Any]) -> Path:
    return setup.directory / trial_folder(trial)


def failure(error: Exception, directory: Path) -> dict[str, Any]:
    """The result of a trial that failed and would fail again."""
    return {FAILURE: str(error), METRIC: float("nan"), "epoch": len(read_metrics(directory))}


def interrupted(directory: Path) -> dict[str, Any]:
    """The result of a job that ended because the search was asked to stop."""
    return {INTERRUPTED: True, METRIC: float("nan"), "epoch": len(read_metrics(directory))}


def packed_config(jobs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Several jobs as one of Ray Tune's: the first, with all under "pack". A single one stays as it is."""
    return dict(jobs[0]) if len(jobs) == 1 else {**jobs[0], "pack": [dict(job) for job in jobs]}


def members(config: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The jobs of what `packed_config` made."""
    pack: list[Mapping[str, Any]] = config.get("pack", [config])
    return pack
