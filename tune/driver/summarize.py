"""Make the summary of a search from its study and its trials' folders."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from nmt.config import DataConfig, to_dict
from nmt.data.store.objects import ObjectStore
from nmt.data.store.ready import ReadyData
from nmt.data.stream.pairs import eval_pairs
from nmt.errors import UserError
from nmt.training.files import BEST
from nmt.training.history import FIXED_METRIC, best_epoch, read_metrics
from tune.driver.trial_folders import TrialFolders
from tune.results.layout import trial_id
from tune.results.summary import Summary, TrialRecord, load_summary
from tune.study.study import ORIGIN, SearchStudy, objective_values

Records = dict[int, tuple[FrozenTrial, TrialRecord]]
"""number of a trial -> the trial as its record shows it, and the record"""


def summarize(
    study: SearchStudy, folders: TrialFolders, *, data: ReadyData, seconds: float, finished: bool, records: Records
) -> Summary:
    """Return the summary of all trials that have no running job; one that is paused at a rung counts as PRUNED.

    Args:
        data: the data set.
        seconds: wall-clock time of the search so far.
        finished: True if nothing is left to run.
        records: those of earlier calls, kept here: nothing changes in the folder of a trial that has no job.
    """
    space = study.space
    idle = {s.number for s in study.standings() if s.ended or (not s.running and s.epoch >= s.until)}
    plain = space.to_dict()
    return Summary(
        name=space.name,
        description=space.description,
        data=data.given,
        space={p.key: p.describe() for p in (*space.parameters, *space.sweep)},
        search=plain["search"],
        resources=plain["resources"],
        epochs=space.base.train.epochs,
        seconds=round(seconds, 1),
        trials=tuple(_kept(study, folders, t, records) for t in study.trials() if t.number in idle),
        finished=finished,
        has_test=data.has_test,
        val_pairs=data.val_pairs,
    )


def with_val_pairs(data: ReadyData, config: DataConfig) -> ReadyData:
    """Return the data set with the number of its validation pairs, for the report."""
    return dataclasses.replace(data, val_pairs=len(eval_pairs(ObjectStore.open(data.folder), config, split="val")))


def objectives(study: SearchStudy, number: int, best: Mapping[str, Any]) -> list[float]:
    """Return the trial's value of each objective, at its best epoch."""
    return objective_values(study.space, study.configuration(number), best)


def _kept(study: SearchStudy, folders: TrialFolders, trial: FrozenTrial, records: Records) -> TrialRecord:
    """Return the record of a trial, the one of an earlier call unless a job of the trial has begun since."""
    before, record = records.get(trial.number, (None, None))
    if before is not trial or record is None:
        record = _record(study, folders, trial)
        records[trial.number] = trial, record
    return record


def _record(study: SearchStudy, folders: TrialFolders, trial: FrozenTrial) -> TrialRecord:
    space, directory = study.space, folders.of(trial.number)
    with folders.noted():
        history = read_metrics(directory)
    if not history and trial.intermediate_values and (lost := _saved(folders, trial.number)):
        return lost
    params = study.params(trial)
    config = study.configuration(trial.number)
    checkpoint, best = directory / BEST, best_epoch(history)
    there = checkpoint.is_file() or (folders.home is not None and bool(history))
    values = objectives(study, trial.number, best) if best else []
    return TrialRecord(
        id=trial_id(trial.number),
        state=trial.state.name if trial.state.is_finished() else TrialState.PRUNED.name,
        searched={key: list(value) if isinstance(value, tuple) else value for key, value in params.items()},
        configuration=to_dict(config),
        best=best,
        last=history[-1] if history else {},
        accuracy_fixed_decode=max((m[FIXED_METRIC] for m in history), default=None),
        epochs=len(history),
        seconds=round(history[-1]["seconds"], 2) if history else 0.0,
        seed=config.train.seed,
        checkpoint=str(checkpoint.relative_to(folders.directory)) if there else None,
        reason=trial.user_attrs.get("reason"),
        objectives=dict(zip(space.search.objectives, values, strict=True)) if best else {},
        origin=trial.user_attrs.get(ORIGIN),
    )


def _saved(folders: TrialFolders, number: int) -> TrialRecord | None:
    """Return the record in the summary on disk of a trial whose folder is lost, without its weights."""
    try:
        saved = load_summary(folders.directory)
    except UserError:  # lost too
        return None
    found = next((trial for trial in saved.trials if trial.id == trial_id(number)), None)
    return dataclasses.replace(found, checkpoint=None) if found else None
