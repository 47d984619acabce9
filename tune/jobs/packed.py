"""Several jobs of a search in one process, as one packed training (nmt.training.packed): `[resources] packed`.

A pack is one job to Ray Tune. Its configuration is that of its first member, with all members under "pack". Each event
belongs to one member and carries its "number".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import ray.tune

from nmt.config import from_dict
from nmt.data.store.ready import local_data
from nmt.errors import UserError
from nmt.training.history import EpochResult, read_metrics
from tune.jobs.causes import is_final
from tune.jobs.control import Asked
from tune.jobs.notes import Notes
from tune.jobs.protocol import TrialSetup, event, failure, interrupted, trial_directory
from tune.jobs.spot import node_watch
from tune.jobs.stored import take_over
from tune.jobs.uploads import Uploads
from tune.results.layout import run_folder, trial_folder


def run_pack(setup: TrialSetup, jobs: Sequence[Mapping[str, Any]]) -> None:
    """Train every job of a pack, with an event after each epoch of each.

    Args:
        jobs: {"number", "configuration", "until"} of each; `until` is the same for all.
    """
    with Notes() as notes, Uploads(setup.storage) as uploads:
        try:
            node_watch().check()
            outcomes: Sequence[Any] = _train(setup, jobs, notes, uploads)
        except KeyboardInterrupt:  # every member has written its checkpoint
            for job in jobs:
                uploads.put(trial_folder(job["number"]))
            node_watch().check()
            for job in jobs:
                ray.tune.report(interrupted(setup, job))
            return
        except UserError as error:
            if not is_final(error):
                raise
            outcomes = [error] * len(jobs)
        uploads.wait()  # after a report the driver alone changes the folder at the storage
        for job, outcome in zip(jobs, outcomes, strict=True):
            if isinstance(outcome, Exception):
                ray.tune.report(failure(setup, job, outcome) | notes.take(trial_directory(setup, job)))


def _train(setup: TrialSetup, jobs: Sequence[Mapping[str, Any]], notes: Notes, uploads: Uploads) -> Sequence[Any]:
    """Return the best epoch of each job, or the error that ended it."""
    import torch

    from nmt.training.packed import train_packed

    directories = [trial_directory(setup, job) for job in jobs]
    folders = [trial_folder(job["number"]) for job in jobs]
    configs = [from_dict(job["configuration"], source=f"trial {job['number']}") for job in jobs]
    trained: list[int] = []
    for job, config, folder, directory in zip(jobs, configs, folders, directories, strict=True):
        take_over(setup.storage, folder, config)
        trained.append((read_metrics(directory) or [{"epoch": 0}])[-1]["epoch"])
        if 0 < trained[-1] < job["until"]:  # an earlier process may have died before it reported this epoch
            ray.tune.report(event(setup, job))

    def on_epoch(k: int, report: EpochResult) -> None:
        uploads.put(folders[k])
        if report.epoch >= jobs[k]["until"]:
            uploads.leave(folders[k])
        ray.tune.report(event(setup, jobs[k]) | notes.take(directories[k]))

    torch.set_num_threads(setup.resources.cpus)
    outcomes = train_packed(
        configs,
        data=local_data(setup.data, configs[0]),
        directories=directories,
        until=jobs[0]["until"],
        on_epoch=on_epoch,
        on_checkpoint=lambda k: uploads.later(folders[k]),
        resume=True,
        decode_grid=setup.decode_grid,
        interrupted=Asked(setup.control),
        root=run_folder(directories[0]),
    )
    for job, folder, epoch in zip(jobs, folders, trained, strict=True):
        uploads.leave(folder)
        if epoch >= job["until"]:  # its files were only checked; the search may delete them from now on
            ray.tune.report(event(setup, job))
    return outcomes
