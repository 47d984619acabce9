"""One job of a search: training a trial up to an epoch, with one worker, in a process that Ray Tune reuses.

A trial owns the directory trials/ID. It resumes from the checkpoint there, after a restart of its process or of the
whole search. An error that would repeat (a diverged loss, a wrong configuration) ends the trial. Any other is raised,
and the driver decides (tune.jobs.causes, tune.driver.recorder).
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
from tune.jobs.causes import is_final
from tune.jobs.control import Asked
from tune.jobs.notes import Notes
from tune.jobs.protocol import TrialSetup, event, failure, interrupted, trial_directory
from tune.jobs.spot import node_watch
from tune.jobs.stored import take_over
from tune.jobs.uploads import Uploads
from tune.results.layout import run_folder, trial_folder


def run_trial(setup: TrialSetup, trial: Mapping[str, Any]) -> None:
    """Train a trial to the end of its epoch `until`, with an event after every epoch.

    Args:
        trial: {"number", "configuration", "until"}.
    """
    from nmt.training.trainer import DivergedError

    folder, directory = trial_folder(trial["number"]), trial_directory(setup, trial)
    with Notes() as notes, Uploads(setup.storage) as uploads:
        try:
            node_watch().check()  # a process that Ray Tune reuses may be on a node that is taken away
            config = from_dict(trial["configuration"], source=f"trial {directory.name}")
            take_over(setup.storage, folder, config)
            _train(setup, trial, config, notes, uploads)
        except KeyboardInterrupt:  # the training has written its checkpoint
            uploads.put(folder)
            node_watch().check()
            ray.tune.report(interrupted(setup, trial) | notes.take(directory))
        except (DivergedError, UserError) as error:
            if not is_final(error):
                raise
            uploads.wait()  # after the report the driver alone changes the folder at the storage
            ray.tune.report(failure(setup, trial, error) | notes.take(directory))


def _train(setup: TrialSetup, trial: Mapping[str, Any], config: Config, notes: Notes, uploads: Uploads) -> None:
    import torch

    import nmt.training.loop

    folder, directory = trial_folder(trial["number"]), trial_directory(setup, trial)
    # An earlier process may have died before it reported its last epoch. The scheduler must still decide on that.
    unheard = (read_metrics(directory) or [{"epoch": 0}])[-1]["epoch"]
    if 0 < unheard < trial["until"]:
        ray.tune.report(event(setup, trial))

    def on_epoch(report: EpochResult) -> None:
        uploads.put(folder)
        if report.epoch >= trial["until"]:  # before the event: Ray may end this process after it
            uploads.leave(folder)
        ray.tune.report(event(setup, trial) | notes.take(directory))

    torch.set_num_threads(setup.resources.cpus)

    def train(config: Config, again: bool) -> EpochResult:
        uploads.wait()
        return nmt.training.loop.train(
            config,
            data=local_data(setup.data, config),
            directory=directory,
            on_epoch=on_epoch,
            on_checkpoint=lambda: uploads.later(folder),
            resume=True,
            until=trial["until"],
            decode_grid=setup.decode_grid,
            val_f1=setup.val_f1,
            interrupted=Asked(setup.control),
            root=run_folder(directory),
        )

    twice_within_memory(train, config)
    uploads.leave(folder)
    if unheard >= trial["until"]:  # the training has only checked its files; the search may delete them from now on
        ray.tune.report(event(setup, trial) | notes.take(directory))
