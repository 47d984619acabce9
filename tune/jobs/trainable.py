"""The trainable that Ray Tune runs for each trial."""

from __future__ import annotations

from typing import Any

import ray.tune

from tune.jobs.protocol import TrialSetup
from tune.jobs.single import run_trial


def make_trainable(setup: TrialSetup) -> Any:
    """Return a function for trials of one worker, a class for trials of several.

    Not a Ray Train job for one worker: that takes 15 to 33 s to start and stop, a reused process 0.1 s.
    """
    if setup.resources.workers > 1:
        from tune.jobs.distributed import WorkersTrial

        return ray.tune.with_parameters(WorkersTrial, setup=setup)

    def nmt_trial(trial: dict[str, Any]) -> None:
        if "pack" in trial:
            from tune.jobs.packed import run_pack

            run_pack(setup, trial["pack"])
        else:
            run_trial(setup, trial)

    return nmt_trial
