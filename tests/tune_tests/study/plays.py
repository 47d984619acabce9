"""Searches played without training: the value of a trial is a formula of its parameters."""

from __future__ import annotations

from optuna.trial import TrialState

from tune.study.halving import Pause
from tune.study.study import SearchStudy

Played = dict[str, list[tuple[int, int, dict[str, object]]]]


COUNTABLE = """
"model.decoder_layers" = { low = 1, high = 4 }
"loss.layer" = { low = 0.0, high = 1.0, step = 0.1 }
"loss.layer_weighting" = { values = ["flat", "linear"], when = { "loss.layer" = "> 0" } }
"""


def value_of(params: dict[str, object], epoch: int) -> float:
    layers, weight = params.get("model.decoder_layers", 1), params.get("loss.layer", 0.0)
    assert isinstance(layers, int) and isinstance(weight, float)
    return 0.5 + 0.1 * layers - weight**2 + 0.05 * epoch + 0.01 * (params.get("loss.layer_weighting") == "linear")


def play(study: SearchStudy, jobs: int = 10**6) -> list[tuple[int, int, dict[str, object]]]:
    """Run jobs one after the other: (number, until, searched values)."""
    done = []
    while len(done) < jobs and not isinstance(job := study.next_job(), Pause):
        trial = study.trial(job.number)
        params = study.params(trial)
        for epoch in range(len(trial.intermediate_values) + 1, job.until + 1):
            study.report(job.number, epoch, value_of(params, epoch))
        if job.until == study.ladder.epochs:
            study.finish(job.number, TrialState.COMPLETE, {})
        else:
            study.end_job(job.number)
        done.append((job.number, job.until, params))
    return done
