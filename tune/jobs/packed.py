"""Several jobs of a search in one process, as one packed training (nmt.training.packed): `[resources] packed`.

A pack is one job to Ray Tune. Its configuration is that of its first member with all members under "pack"; each result
is of one member and carries its "number".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import ray.tune

from nmt.config import from_dict
from nmt.data.store.ready import local_data
from nmt.errors import UserError
from nmt.training.history import read_metrics
from tune.jobs.protocol import TrialSetup, failure, interrupted, trial_directory, trial_folder
from tune.jobs.stop import Asked


def run_pack(setup: TrialSetup, jobs: Sequence[Mapping[str, Any]]) -> None:
    """Train every job to the end of its epoch `until`, the same for all, reporting each to Ray Tune."""
    import torch

    from nmt.training.packed import train_packed

    directories = [trial_directory(setup, job) for job in jobs]
    try:
        for job, directory in zip(jobs, directories, strict=True):
            if setup.storage is not None:
                setup.storage.take_over(trial_folder(job))
            for metrics in read_metrics(directory)[-1:]:  # a run that died may not have told of it
                ray.tune.report({**metrics, "number": job["number"]})

        def on_epoch(k: int, report: Any) -> None:
            if setup.storage is not None:
                setup.storage.put(trial_folder(jobs[k]))
            ray.tune.report({**report.metrics, "number": jobs[k]["number"]})

        torch.set_num_threads(setup.resources.cpus)
        configs = [from_dict(job["configuration"], source=f"trial {job['number']}") for job in jobs]
        outcomes: Sequence[Any] = train_packed(
            configs,
            data=local_data(setup.data, configs[0]),
            directories=directories,
            until=jobs[0]["until"],
            on_epoch=on_epoch,
            resume=True,
            decode_grid=setup.decode_grid,
            interrupted=Asked(setup.flag),
        )
    except KeyboardInterrupt:  # all have written their checkpoints
        for job, directory in zip(jobs, directories, strict=True):
            if setup.storage is not None:
                setup.storage.put(trial_folder(job))
            ray.tune.report({**interrupted(directory), "number": job["number"]})
        return
    except UserError as error:
        outcomes = [error] * len(jobs)
    for job, directory, outcome in zip(jobs, directories, outcomes, strict=True):
        if isinstance(outcome, Exception):
            ray.tune.report({**failure(outcome, directory), "number": job["number"]})
