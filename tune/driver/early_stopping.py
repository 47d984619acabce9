"""Early stopping in the middle of a job: the decision that Ray Tune asks for after every epoch.

The default, promotion, does not use it: its jobs end at their rungs by themselves (tune.study.halving). Here are the
alternatives that stop a trial for good. `Rungs` decides for "asha_stop" from numbers alone; `SuccessiveHalving` adapts
it to Ray. "ray_asha" and "ray_median" are Ray's own, for comparison.
"""

from __future__ import annotations

import math
from typing import Any

from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, MedianStoppingRule, TrialScheduler

from tune.study.study import SearchStudy

CONTINUE = TrialScheduler.CONTINUE
STOP = TrialScheduler.STOP


def make_scheduler(study: SearchStudy, *, metric: str) -> TrialScheduler:
    """Return the Ray scheduler of a search.

    The rungs of "asha_stop" are filled with the values of earlier runs of the search. Ray saves no scheduler state, so
    its own two begin anew on --resume.

    Args:
        metric: key of the compared value in a job's events.
    """
    search, epochs = study.space.search, study.space.base.train.epochs
    ranking: dict[str, Any] = {
        "time_attr": "epoch",
        "metric": metric,
        "mode": "max",
        "grace_period": search.grace_epochs,
    }
    if search.scheduler == "ray_asha":
        return RayHalving(max_t=epochs, reduction_factor=search.reduction_factor, **ranking)
    if search.scheduler == "ray_median":
        return RayMedian(**ranking)
    if search.scheduler != "asha_stop":
        return FIFOScheduler()
    rungs = Rungs(epochs=epochs, grace=search.grace_epochs, factor=search.reduction_factor)
    for trial in study.trials():
        for epoch, value in trial.intermediate_values.items():
            rungs.goes_on(trial.number, epoch, value)
    return SuccessiveHalving(rungs, metric=metric)


class Rungs:
    """Values at the epochs `grace`, `grace` x `factor`, ... below `epochs`; at each, the best 1/`factor` train on.

    The stopping variant of asynchronous successive halving (Li et al. 2018, arXiv 1810.05934). It replaces Ray's for
    two reasons: its rungs are rebuilt from the study on --resume, and a value that is not finite stops its trial.
    """

    def __init__(self, *, epochs: int, grace: int, factor: int) -> None:
        self.factor = factor
        self.values: dict[int, dict[int, float]] = {}
        """epoch of the rung -> trial number -> value there"""
        milestone = grace
        while milestone < epochs:
            self.values[milestone] = {}
            milestone *= factor

    def goes_on(self, number: int, epoch: int, value: float) -> bool:
        """Record the trial's value at this epoch; return True if it trains on.

        A rung decides once per trial: a trial that reports the same epoch again, after a restart, trains on.
        """
        rung = self.values.get(epoch)
        if rung is None or number in rung:
            return True
        rung[number] = value
        better = sum(other > value for other in rung.values())
        # The paper promotes floor(n / factor) of n trials. A trial cannot wait for others here, so round up.
        return better < math.ceil(len(rung) / self.factor)


class SuccessiveHalving(FIFOScheduler):
    """Stop the trials that `Rungs` turns down.

    The default configuration (trial 0) is never stopped: the gain of a search is measured against it.
    """

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


class RayHalving(AsyncHyperBandScheduler):
    """Ray's ASHA over epochs. It counts the default configuration (trial 0) but never stops it."""

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        decision = super().on_trial_result(tune_controller, trial, result)
        return CONTINUE if trial.config["number"] == 0 else decision


class RayMedian(MedianStoppingRule):
    """Ray's median stopping rule (Golovin et al. 2017). It counts the default configuration but never stops it."""

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        decision = super().on_trial_result(tune_controller, trial, result)
        return CONTINUE if trial.config["number"] == 0 else decision
