"""The trials of a search as its page shows them: ended, paused and running ones alike."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nmt.training.files import CONFIG
from nmt.training.history import METRIC, best_epoch
from tune.results.histories import Histories
from tune.results.importance import finite_values
from tune.results.layout import trial_folder
from tune.results.summary import Summary
from tune.results.trial_table import is_swept, short_name

STATES = ("complete", "stopped early", "paused", "running", "failed")


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A trial as the page shows it."""

    id: str
    state: str
    """one of STATES"""
    searched: Mapping[str, Any]
    values: Mapping[int, float]
    """epoch -> val/accuracy"""
    best: float | None
    """highest val/accuracy"""
    seconds: Mapping[int, float]
    """epoch -> training time so far"""
    rung: int
    """highest rung that it has reached; 0 for none"""
    reason: str | None = None

    @property
    def number(self) -> int:
        """The number of the trial; 0 is the default configuration."""
        return int(self.id)

    @property
    def epochs(self) -> int:
        """The last epoch that has a value."""
        return max(self.values, default=0)


def rungs_of(summary: Summary) -> list[int]:
    """Return the epochs at which the search compares trials; the last is the full budget."""
    if summary.search["scheduler"] == "fifo":
        return [summary.epochs]
    below, epoch = [], summary.search["grace_epochs"]
    while epoch < summary.epochs:
        below.append(epoch)
        epoch *= summary.search["reduction_factor"]
    return [*below, summary.epochs]


def shown_trials(summary: Summary, histories: Histories, directory: Path) -> list[Shown]:
    """Return all trials by number, those that are running included."""
    rungs = rungs_of(summary)
    early = "stopped early" if summary.finished else "paused"
    states = {"COMPLETE": "complete", "PRUNED": early, "FAIL": "failed"}
    ended = {trial.id: trial for trial in summary.trials}
    shown = []
    for name in sorted(ended.keys() | histories.epochs.keys(), key=int):
        history, trial = histories.epochs.get(name, []), ended.get(name)
        values = finite_values(history)
        shown.append(
            Shown(
                id=name,
                state=states[trial.state] if trial else "running",
                searched=trial.searched if trial else _searched(directory, name, summary),
                values=values,
                best=trial.accuracy if trial else best_epoch(history).get(METRIC),
                seconds={m["epoch"]: m["seconds"] for m in history if "seconds" in m},
                rung=max((rung for rung in rungs if rung in values), default=0),
                reason=trial.reason if trial else None,
            )
        )
    return shown


def searched_keys(summary: Summary) -> list[str]:
    """Return the keys whose values cost a training, without those that each trial tries at inference."""
    return [key for key in summary.space if not is_swept(key, summary)]


def is_log(key: str, summary: Summary) -> bool:
    """True if the search draws the key on a logarithmic scale."""
    return summary.space.get(key, "").partition(",")[0].endswith("(log)")


def short_names(keys: Iterable[str]) -> dict[str, str]:
    """Return key -> its last part, or all of it where that is not unique."""
    keys = list(keys)
    return {key: short_name(key, keys) for key in keys}


def word(value: Any) -> str:
    """Return a value as the page shows it."""
    if isinstance(value, float):
        return f"{value:.3g}"
    return value if isinstance(value, str) else json.dumps(value)


def categories(values: Sequence[Any]) -> list[str] | None:
    """Return the names that a key takes, sorted; None for a key of numbers."""
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return None
    return sorted({word(value) for value in values})


def _searched(directory: Path, name: str, summary: Summary) -> dict[str, Any]:
    """Return the searched values of a running trial, from its configuration; none if that cannot be read."""
    try:
        content = json.loads((directory / trial_folder(int(name)) / CONFIG).read_text())
        pairs = [(key, *key.split(".", 1)) for key in searched_keys(summary)]
        return {key: content[branch][field] for key, branch, field in pairs}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
