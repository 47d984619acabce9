"""One job of a search: a trial's training, up to an epoch. With one worker, here, in a process that Ray Tune reuses.

A trial owns the directory trials/ID and goes on from the checkpoint it finds there, whether its process was restarted
or the whole search. Retries are Ray Tune's alone, and for what may pass: an error that would only repeat (a diverged
loss, a wrong request) is the trial's result instead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray.tune

from nmt.config import Config, DecodeConfig, from_dict
from nmt.errors import UserError
from nmt.training.history import METRIC, read_metrics
from nmt.training.out_of_memory import twice_within_memory
from tune.results.storage import Storage
from tune.searcher import trial_id
from tune.spaces.settings import Resources
from tune.stop import Asked

FAILURE = "failure"
"""key of a result that ends its trial as failed, and why"""

NOTE = "note"
"""key of a result with a line for the user"""

INTERRUPTED = "interrupted"
"""key of a result that ends a job because the search was asked to stop; its trial goes on another day"""


@dataclass(frozen=True, kw_only=True)
class TrialSetup:
    """What all trials of a search share."""

    data: Path
    """the Arrow data set"""
    directory: Path
    """of the search"""
    decode_grid: tuple[DecodeConfig, ...]
    resources: Resources
    storage: Storage | None
    """where the search lives, when that is not `directory`"""
    flag: Any
    """up when the search was asked to stop (tune.stop)"""


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


def make_trainable(setup: TrialSetup) -> Callable[[dict[str, Any]], None]:
    """The function that Ray Tune runs for each trial of one worker."""

    def nmt_trial(trial: dict[str, Any]) -> None:
        if "pack" in trial:
            from tune.pack import run_pack

            run_pack(setup, trial["pack"])
        else:
            run_trial(setup, trial)

    return nmt_trial


def run_trial(setup: TrialSetup, trial: Mapping[str, Any]) -> None:
    """Train {"number", "configuration", "until"} to the end of that epoch, reporting every epoch to Ray Tune."""
    import nmt.training.history
    import nmt.training.loop
    import nmt.training.trainer

    directory = trial_directory(setup, trial)
    try:
        if setup.storage is not None:
            setup.storage.take_over(trial_folder(trial))
        _go_on(setup, trial, directory)
    except KeyboardInterrupt:  # it has written its checkpoint
        if setup.storage is not None:
            setup.storage.put(trial_folder(trial))
        ray.tune.report(interrupted(directory))
    except (nmt.training.trainer.DivergedError, UserError) as error:
        ray.tune.report(failure(error, directory))


def _go_on(setup: TrialSetup, trial: Mapping[str, Any], directory: Path) -> None:
    import torch

    import nmt.training.history
    import nmt.training.loop
    import nmt.training.trainer

    config = from_dict(trial["configuration"], source=f"trial {directory.name}")
    history = read_metrics(directory)
    if history:
        # A run that died may have trained this epoch without hearing the scheduler's decision on it.
        ray.tune.report(history[-1])
        if history[-1]["epoch"] >= trial["until"]:
            return

    def on_epoch(report: nmt.training.history.EpochReport) -> None:
        if setup.storage is not None:
            setup.storage.put(trial_folder(trial))
        ray.tune.report(dict(report.metrics))

    torch.set_num_threads(setup.resources.cpus)

    def train(config: Config, again: bool) -> nmt.training.history.EpochReport:
        return nmt.training.loop.train(
            config,
            data=setup.data,
            directory=directory,
            on_epoch=on_epoch,
            resume=True,
            until=trial["until"],
            decode_grid=setup.decode_grid,
            interrupted=Asked(setup.flag),
        )

    twice_within_memory(train, config)
