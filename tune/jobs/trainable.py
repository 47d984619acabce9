"""TODO docstring of tune.jobs.trainable."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tune.jobs.protocol import TrialSetup
from tune.jobs.single import run_trial


def make_trainable(setup: TrialSetup) -> Callable[[dict[str, Any]], None]:
    """The function that Ray Tune runs for each trial of one worker."""

    def nmt_trial(trial: dict[str, Any]) -> None:
        if "pack" in trial:
            from tune.jobs.packed import run_pack

            run_pack(setup, trial["pack"])
        else:
            run_trial(setup, trial)

    return nmt_trial
