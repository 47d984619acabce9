"""One job of a search: a trial's training, up to an epoch. With one worker, here, in a process that Ray Tune reuses.

A trial owns the directory trials/ID and goes on from the checkpoint it finds there, whether its process was restarted
or the whole search. Retries are Ray Tune's alone, and for what may pass: an error that would only repeat (a diverged
loss, a wrong request) is the trial's result instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ray.tune

from nmt.config import Config, from_dict
from nmt.data.store.ready import local_data
from nmt.errors import UserError
from nmt.training.history import read_metrics
from nmt.training.out_of_memory import twice_within_memory
from tune.jobs.protocol import TrialSetup, failure, interrupted, trial_directory, trial_folder
from tune.jobs.stop import Asked


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

    def on_epoch(report: nmt.training.history.EpochResult) -> None:
        if setup.storage is not None:
            setup.storage.put(trial_folder(trial))
        ray.tune.report(dict(report.metrics))

    torch.set_num_threads(setup.resources.cpus)

    def train(config: Config, again: bool) -> nmt.training.history.EpochResult:
        return nmt.training.loop.train(
            config,
            data=local_data(setup.data, config),
            directory=directory,
            on_epoch=on_epoch,
            resume=True,
            until=trial["until"],
            decode_grid=setup.decode_grid,
            interrupted=Asked(setup.flag),
        )

    twice_within_memory(train, config)
