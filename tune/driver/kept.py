"""Delete what an ended trial does not need any more: its checkpoints, and the copies of its weights on the nodes.

A trial that is paused at a rung, or was interrupted, has not ended: it may train on, and keeps everything. COMPLETE,
PRUNED and FAIL are final. Nothing promotes such a trial again, also not `--resume` with more trials
(tune.study.halving), so its best weights are all that is read later.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from nmt.training.files import CHECKPOINT, PREVIOUS
from nmt.training.history import METRIC
from tune.driver.trial_folders import TrialFolders
from tune.jobs.uploads import drop_weights
from tune.results.ended import Ended, read_ended, write_ended
from tune.results.layout import ENDED, TRIALS, trial_folder
from tune.study.study import SearchStudy

CHECKPOINTS = (CHECKPOINT, PREVIOUS)


def settle(study: SearchStudy, folders: TrialFolders, *numbers: int) -> None:
    """Delete what trials do not need any more whose end the study has recorded, here, at the storage and on the nodes.

    A trial's folder keeps a record of its end, written first: a study that is restored from an older copy takes the end
    from there, and does not train the trial again.
    """
    for number in numbers:
        if study.space.search.keep == "best":
            _delete_checkpoints(study, folders, number)
    if folders.home is not None and numbers:
        _drop_copies([folders.of(number).resolve() for number in numbers])


def _delete_checkpoints(study: SearchStudy, folders: TrialFolders, number: int) -> None:
    trial, here = study.trial(number), folders.of(number)
    with folders.noted():
        history = folders.history(number)
        write_ended(here, Ended(state=trial.state.name, reason=trial.user_attrs.get("reason"), history=history))
        folders.put(trial_folder(number), ENDED)
        if folders.home is not None:
            folders.home.remove(trial_folder(number), CHECKPOINTS)
        for name in CHECKPOINTS:
            (here / name).unlink(missing_ok=True)


def settle_left(study: SearchStudy, folders: TrialFolders) -> None:
    """`settle` the ended trials whose checkpoints an earlier run of the search has left."""
    ended = [trial.number for trial in study.trials() if trial.state.is_finished()]
    if folders.home is None:
        left = [number for number in ended if any((folders.of(number) / name).is_file() for name in CHECKPOINTS)]
    else:
        with folders.noted():
            there = folders.home.stored(TRIALS)
        left = [number for number in ended if any((trial_folder(number), name) in there for name in CHECKPOINTS)]
    settle(study, folders, *left)


def unknown_end(study: SearchStudy, folders: TrialFolders, number: int) -> Ended | None:
    """Return the end of a trial that its folder records and the study, restored from an older copy, does not know.

    The study then knows the values of all its epochs, also of a last one whose best weights are lost.
    """
    ended = None if study.trial(number).state.is_finished() else read_ended(folders.of(number))
    for metrics in ended.history if ended is not None else ():
        study.report(number, metrics["epoch"], metrics[METRIC])
    return ended


def _drop_copies(directories: Sequence[Path]) -> None:
    """Remove the weights of ended trials from every node: they are at the storage. Does not wait for other nodes."""
    drop_all(directories)
    if not ray.is_initialized():
        return
    task: Any = ray.remote(num_cpus=0, max_retries=0)(drop_all)
    here = ray.get_runtime_context().get_node_id()
    for node in ray.nodes():
        if node["Alive"] and node["NodeID"] != here:
            on_it = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            task.options(scheduling_strategy=on_it).remote(directories)


def drop_all(directories: Sequence[Path]) -> None:
    """Remove the weights of trainings from their folders."""
    for directory in directories:
        drop_weights(directory)
