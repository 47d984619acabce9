"""One job of a search: training a trial up to an epoch, with one worker, in a process that Ray Tune reuses.

A trial owns the directory trials/ID. It resumes from the checkpoint there, after a restart of its process or of the
whole search. Only Ray Tune retries, and only errors that may pass. An error that would repeat (a diverged loss, a wrong
configuration) ends the trial.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ray.tune

from nmt.config import Config, from_dict
from nmt.data.store.ready import local_data
from nmt.errors import UserError
from nmt.training.history import EpochResult, read_metrics
from nmt.training.out_of_memory import twice_within_memory
from tune.jobs.control import Asked
from tune.jobs.protocol import TrialSetup, event, failure, interrupted, trial_directory
from tune.results.layout import trial_folder


def run_trial(setup: TrialSetup, trial: Mapping[str, Any]) -> None:
    """Train a trial to the end of its epoch `until`, with an event after every epoch.

    Args:
        trial: {"number", "configuration", "until"}.
    """
    from nmt.training.trainer import DivergedError

    folder = trial_folder(trial["number"])
    try:
        if setup.storage is not None:
            setup.storage.take_over(folder)
        _train(setup, trial)
    except KeyboardInterrupt:  # the training has written its checkpoint
        if setup.storage is not None:
            setup.storage.put(folder)
        ray.tune.report(interrupted(setup, trial))
    except (DivergedError, UserError) as error:
        ray.tune.report(failure(setup, trial, error))


def _train(setup: TrialSetup, trial: Mapping[str, Any]) -> None:
    import torch

    import nmt.training.loop

    directory, until = trial_directory(setup, trial), trial["until"]
    trained = len(read_metrics(directory))
    if trained:
        # An earlier process may have died before it reported this epoch. The scheduler must still decide on it, and if
        # it was the last of the job, Ray would wait for a result.
        ray.tune.report(event(setup, trial))
    if trained >= until:
        return

    def on_epoch(_: EpochResult) -> None:
        if setup.storage is not None:
            setup.storage.put(trial_folder(trial["number"]))
        ray.tune.report(event(setup, trial))

    torch.set_num_threads(setup.resources.cpus)

    def train(config: Config, again: bool) -> EpochResult:
        return nmt.training.loop.train(
            config,
            data=local_data(setup.data, config),
            directory=directory,
            on_epoch=on_epoch,
            resume=True,
            until=until,
            decode_grid=setup.decode_grid,
            interrupted=Asked(setup.control),
        )

    twice_within_memory(train, from_dict(trial["configuration"], source=f"trial {directory.name}"))
