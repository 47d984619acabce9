"""The metrics of every epoch of every trial of a search, read from the trials' folders."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nmt.errors import UserError
from nmt.training.history import read_metrics
from tune.results.layout import TRIALS, trial_folder
from tune.results.summary import Summary, TrialRecord


@dataclass(frozen=True, kw_only=True)
class Histories:
    """What the trials of a search have reported so far, epoch by epoch."""

    epochs: Mapping[str, list[dict[str, Any]]]
    """trial -> its metrics, one entry per epoch; also of trials that are running"""
    damaged: tuple[str, ...]
    """one line for each trial whose file cannot be read"""


def read_histories(summary: Summary, directory: Path) -> Histories:
    """Read the metrics of all trials, also while the search runs.

    A trial whose folder is absent or damaged has the epochs that its record holds: the best and the last.

    Args:
        directory: results/NAME, with the folders of the trials.
    """
    records = {trial.id: trial for trial in summary.trials}
    folders = {path.name for path in (directory / TRIALS).glob("*") if path.name.isdigit()}
    found, damaged = dict[str, list[dict[str, Any]]](), []
    for trial in sorted(records.keys() | folders, key=int):
        try:
            history = read_metrics(directory / trial_folder(int(trial)))
        except UserError as error:
            history = []
            damaged.append(str(error))
        if not history and trial in records:
            history = _recorded(records[trial])
        if history:
            found[trial] = history
    return Histories(epochs=found, damaged=tuple(damaged))


def _recorded(trial: TrialRecord) -> list[dict[str, Any]]:
    """Return the epochs that the record of a trial holds, in their order."""
    by_epoch = {metrics["epoch"]: metrics for metrics in (trial.best, trial.last) if "epoch" in metrics}
    return [by_epoch[epoch] for epoch in sorted(by_epoch)]
