"""Early stopping by asynchronous successive halving (Li et al. 2018, arXiv 1810.05934, its stopping variant).

`Rungs` decides, from numbers alone; `SuccessiveHalving` is its thin coat for Ray. Our own instead of Ray's
AsyncHyperBandScheduler because its rungs are rebuilt from the study on `--resume` (Ray saves no scheduler state), time
is our `epoch` (Ray's `training_iteration` restarts with a restarted trial), and a value that is not finite stops.
"""

from __future__ import annotations

import math
from typing import Any

import ray.tune.schedulers

CONTINUE = ray.tune.schedulers.TrialScheduler.CONTINUE
STOP = ray.tune.schedulers.TrialScheduler.STOP


class Rungs:
    """Values at the epochs `grace`, `grace` x `factor`, ... below `epochs`; at each, the best of `factor` go on."""

    def __init__(self, *, epochs: int, grace: int, factor: int) -> None:
        self.factor = factor
        self.values: dict[int, dict[int, float]] = {}
        """epoch of the rung -> trial number -> value there"""
        milestone = grace
        while milestone < epochs:
            self.values[milestone] = {}
            milestone *= factor

    def goes_on(self, number: int, epoch: int, value: float) -> bool:
        """Record the trial at this epoch and decide. A rung decides once: a repeated report (restart) goes on."""
        rung = self.values.get(epoch)
        if rung is None or number in rung:
            return True
        rung[number] = value
        better = sum(other > value for other in rung.values())
        # The paper promotes floor(n / factor) of n; a trial that cannot wait for company must be decided now: round up.
        return better < math.ceil(len(rung) / self.factor)


class SuccessiveHalving(ray.tune.schedulers.FIFOScheduler):
    """Stops the trials that `Rungs` turns down. The default configuration (trial 0) is the yardstick: never stopped."""

    def __init__(self, rungs: Rungs, *, metric: str) -> None:
        super().__init__()
        self._rungs = rungs
        self._metric: str = metric

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        number, value = trial.config["number"], result[self._metric]
        if not math.isfinite(value):
            return STOP
        goes_on = self._rungs.goes_on(number, result["epoch"], value)
        return CONTINUE if goes_on or number == 0 else STOP
