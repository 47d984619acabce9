"""Restore the study of a search that was lost or damaged: from its backup, or else from the folders of its trials.

A new study would draw other configurations, and so report what a folder holds under a configuration that it was not
trained with. Either every trial is found again with its own configuration, or the search does not go on.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import shutil
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from nmt.config import Config, comparable, from_dict, load_config, to_flat
from nmt.errors import UserError, one_line
from nmt.io.database import check_database, database_error, is_damage, open_database
from nmt.io.files import atomic_output, remove_partials
from nmt.io.user_files import listed
from nmt.settings import differences
from nmt.training.files import CONFIG
from nmt.training.history import METRIC, best_epoch, decoding_of, read_metrics
from tune.spaces.space import Space
from tune.study import reselect
from tune.study.database import open_storage
from tune.study.sampler import directions, given
from tune.study.sampler_view import UNTIL
from tune.study.study import ORIGIN, ladder, objective_values

_TABLES = ("trial_params", "trial_values", "trial_intermediate_values", "trial_user_attributes", "study_directions")
"""tables of Optuna that hold what a search knows"""
_ITS_TRIALS = "FROM trials JOIN studies USING (study_id) WHERE study_name = ?"


@dataclass(frozen=True, kw_only=True)
class Remains:
    """Where a search keeps what its study can be restored from."""

    study: Path
    backup: Path
    trials: Path
    """folder of the trials' folders, each named by its number"""
    damaged: str
    """beginning of the name that a replaced study gets, beside `study`"""
    set_aside: Path
    """folder for folders of trials that the restored study cannot take"""
    records: Mapping[int, Mapping[str, Any]]
    """trial -> its record in the last summary; it has the state and the configuration of a trial without a folder.
    "ended" is True if the trial's folder itself records its end, which is final"""
    finished: bool
    """True if the last summary is that of a finished search: no trial is paused"""


def fault_of(study: Path, name: str) -> str | None:
    """Return what is wrong with the file of the study `name`, as the end of a sentence; None if it can be used.

    Raises:
        UserError: another program holds the file, or it cannot be opened.
    """
    if not study.is_file():
        return "is missing"
    if not study.stat().st_size:
        return "is empty"
    try:
        with contextlib.closing(open_database(study)) as connection:
            check_database(connection)
            for table in _TABLES:  # Optuna would make a missing table again, empty
                connection.execute(f"SELECT COUNT(*) FROM {table}")
            names = [row[0] for row in connection.execute("SELECT study_name FROM studies")]
            count, last = connection.execute(f"SELECT COUNT(*), MAX(number) {_ITS_TRIALS}", [name]).fetchone()
    except sqlite3.Error as error:
        if not is_damage(error):
            raise database_error(study, error) from error
        return f"is damaged ({one_line(error)})"
    if name not in names:
        return f"holds no study {name!r}, but {', '.join(map(repr, names)) or 'none'}"
    return None if count == (-1 if last is None else last) + 1 else f"lacks {last + 1 - count} of its trials"


def is_ahead(study: Path, other: Path, name: str) -> bool:
    """True if a file holds the same study `name` as another one, and knows more: a search only ever adds to it.

    Raises:
        UserError: another program holds one of them, or it cannot be opened.
    """
    if fault_of(study, name) is not None or fault_of(other, name) is not None:
        return False
    (first, rows), (other_first, other_rows) = _extent(study, name), _extent(other, name)
    return first is not None and first == other_first and rows > other_rows


def _extent(study: Path, name: str) -> tuple[Any, int]:
    """Return when the first trial of a study began, and the number of all that is known of its trials."""
    with contextlib.closing(open_database(study)) as connection:
        first = connection.execute(f"SELECT datetime_start {_ITS_TRIALS} AND number = 0", [name]).fetchone()
        ended = f"SELECT COUNT(*) {_ITS_TRIALS} AND state NOT IN ('RUNNING', 'WAITING')"
        rows = int(connection.execute(ended, [name]).fetchone()[0])
        for table in ("trials", *_TABLES):
            rows += int(connection.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0])
    return first and first[0], rows


def restore(remains: Remains, space: Space) -> list[str]:
    """Make the study of a search usable again, and complete it from the folders of its trials.

    Returns:
        Lines that say what was done; none if nothing was wrong.

    Raises:
        UserError: the study is lost, and there is neither a backup nor a folder of each trial.
    """
    remove_partials(remains.study.parent)
    fault = fault_of(remains.study, space.name)
    lines = [] if fault is None else _replace(remains, space, fault)
    if remains.study.is_file():
        lines += _complete(remains, space)
    return lines


def _replace(remains: Remains, space: Space, fault: str) -> list[str]:
    """Put a usable study in the place of a faulty one; none if the search has no trial yet."""
    said = f"{remains.study} {fault}"
    if remains.backup.is_file() and fault_of(remains.backup, space.name) is None:
        kept = _keep_damaged(remains)
        with atomic_output(remains.study) as partial:
            shutil.copyfile(remains.backup, partial)
        return [f"{said}: restored from {remains.backup.name}{kept}"]
    folders = _folders(remains)
    numbers = folders.keys() | remains.records.keys()
    if not numbers:
        kept = _keep_damaged(remains)
        return [f"{said}, and no trial has begun: a new study begins{kept}"] if kept else []
    found = [_find(remains, space, number, folders.get(number)) for number in range(max(numbers) + 1)]
    missing = [number for number, trial in enumerate(found) if trial is None]
    if missing:
        raise UserError(
            f"{said}, there is no usable {remains.backup.name}, and it cannot be made again from {remains.trials}: "
            f"the configuration of {_named(missing)} is missing there; put back a copy of {remains.study.name}, or "
            "choose another --results"
        )
    kept = _keep_damaged(remains)
    with atomic_output(remains.study) as partial, _opened(partial, space, new=True) as study:
        study.add_trials(trial for trial in found if trial is not None)
    return [f"{said}: made again from the folders of {len(found)} trials in {remains.trials}{kept}"]


def _complete(remains: Remains, space: Space) -> list[str]:
    """Add the trials that the study does not know and whose folders exist; set the folders aside that it cannot take.

    A study restored from a backup may be older than the folders. Others are never behind, so nothing happens to them.
    """
    with contextlib.closing(open_database(remains.study)) as connection:
        known = int(connection.execute(f"SELECT COUNT(*) {_ITS_TRIALS}", [space.name]).fetchone()[0])
    folders = _folders(remains)
    numbers = sorted(number for number in folders.keys() | remains.records.keys() if number >= known)
    if not numbers:
        return []
    found = (_find(remains, space, number, folders.get(number)) for number in range(known, max(numbers) + 1))
    added = list(itertools.takewhile(lambda trial: trial is not None, found))
    with _opened(remains.study, space) as study:
        study.add_trials(trial for trial in added if trial is not None)
    lines = [f"{remains.study}: added {_named(range(known, known + len(added)))} from the folders"] if added else []
    aside = sorted(number for number in folders if number >= known + len(added))
    for number in aside:
        _move_aside(folders[number], remains.set_aside)
    if aside:
        lines.append(
            f"{remains.trials}: the study does not know {_named(aside)} and a trial before is missing; moved to "
            f"{remains.set_aside}"
        )
    return lines


@contextlib.contextmanager
def _opened(path: Path, space: Space, *, new: bool = False) -> Any:
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # the search's own line says that a study was made
    storage = open_storage(path)
    try:
        if new:
            yield optuna.create_study(storage=storage, study_name=space.name, directions=directions(space))
        else:
            yield optuna.load_study(storage=storage, study_name=space.name)
    finally:
        storage.engine.dispose()


def _folders(remains: Remains) -> dict[int, Path]:
    """Return the folder of each trial that has one."""
    inside = remains.trials.iterdir() if remains.trials.is_dir() else ()
    return {int(path.name): path for path in inside if path.name.isdecimal() and path.is_dir()}


def _find(remains: Remains, space: Space, number: int, folder: Path | None) -> FrozenTrial | None:
    """Return a trial as its folder, if it has one, and its record show it; None without its configuration.

    Raises:
        UserError: its configuration is not one of this search, or its metrics are damaged.
    """
    folder, record = folder or remains.trials / str(number), remains.records.get(number, {})
    if (folder / CONFIG).is_file():
        source, config = folder / CONFIG, load_config(folder / CONFIG)
        _check_reported(remains, record, config, source)
    elif "configuration" in record:
        source, config = folder, from_dict(record["configuration"], source=str(folder))
    else:
        return None
    values = space.params_of(config)
    ours = reselect.like(space, config, space.configuration(values))
    if different := differences(to_flat(comparable(config)), to_flat(comparable(ours))):
        raise UserError(f"{source}: not a configuration of this search: {different}; choose another --results")
    over = remains.finished or record.get("ended", False)
    try:
        chosen = given(space, space.encoded(values))
        outcome = _outcome(space, number, config, read_metrics(folder), record, finished=over)
        trial = optuna.trial.create_trial(params=chosen.params, distributions=chosen.distributions, **outcome)
    except (ValueError, KeyError) as error:
        raise UserError(f"{source}: not a configuration of this search ({error}); choose another --results") from error
    if trial.datetime_start is None:  # Optuna gives a waiting trial none, and its duration would be lost
        trial.datetime_start = datetime.now()
    if trial.datetime_complete is not None:  # its duration is what it trained, as tune.study.study writes it
        trial.datetime_start = trial.datetime_complete - timedelta(seconds=outcome["user_attrs"].get("seconds", 0.0))
    return trial


def _check_reported(remains: Remains, record: Mapping[str, Any], config: Config, source: Path) -> None:
    """Raise UserError if the last summary reports another configuration of the trial: one of the two was changed."""
    if "configuration" not in record:
        return
    reported = from_dict(record["configuration"], source=str(source))
    if different := differences(to_flat(comparable(config)), to_flat(comparable(reported))):
        raise UserError(
            f"{source}: not the configuration that the last summary has of this trial: {different}; put a copy back, "
            f"or put back a copy of {remains.study.name}"
        )


def _outcome(
    space: Space,
    number: int,
    config: Config,
    history: Sequence[Mapping[str, Any]],
    record: Mapping[str, Any],
    *,
    finished: bool,
) -> dict[str, Any]:
    """Return the state, values and attributes of a trial, as tune.driver.recorder would have written them."""
    repeat = reselect.attributes(space, config)
    steps = (space.base.train.epochs,) if repeat else ladder(space).steps(number)
    epoch, best = (history[-1]["epoch"] if history else 0), best_epoch(history)
    attributes: dict[str, Any] = {UNTIL: next((step for step in steps if step >= epoch), steps[-1])} | repeat
    if 0 < number <= len(space.given):
        attributes[ORIGIN] = space.given[number - 1].origin
    outcome: dict[str, Any] = {
        "state": TrialState.WAITING if epoch == attributes[UNTIL] else TrialState.RUNNING,
        "intermediate_values": {m["epoch"]: m[METRIC] for m in history if math.isfinite(m[METRIC])},
        "user_attrs": attributes,
    }
    decode = {f"decode.{name}": value for name, value in decoding_of(best).items()}
    end = decode | ({"seconds": history[-1]["seconds"]} if history else {})
    if best and epoch >= space.base.train.epochs:
        values = objective_values(space, config, best)
        return outcome | {"state": TrialState.COMPLETE, "values": values, "user_attrs": attributes | end}
    if record.get("state") == TrialState.FAIL.name:
        reason = {"reason": record["reason"]} if record.get("reason") else {}
        return outcome | {"state": TrialState.FAIL, "user_attrs": attributes | end | reason}
    promotes = len(ladder(space).rungs) > 1
    if best and record.get("state") == TrialState.PRUNED.name and (finished or not promotes):
        last = outcome["intermediate_values"][max(outcome["intermediate_values"])]
        return outcome | {"state": TrialState.PRUNED, "value": last, "user_attrs": attributes | end}
    return outcome


def _keep_damaged(remains: Remains) -> str:
    """Move a study that cannot be used to a free name beside it; return the end of a line that says so."""
    path = remains.study
    for left in ("-journal", "-wal", "-shm"):  # sqlite would apply them to the study that comes next
        path.with_name(path.name + left).unlink(missing_ok=True)
    if not path.exists():
        return ""
    kept = _free(path.parent, remains.damaged, path.suffix)
    path.rename(kept)
    return f"; the old file is {kept.name}"


def _move_aside(folder: Path, place: Path) -> None:
    place.mkdir(exist_ok=True)
    free = place / folder.name
    folder.rename(_free(place, folder.name) if free.exists() else free)


def _free(folder: Path, stem: str, suffix: str = "") -> Path:
    """Return a path that is not taken: STEM-1SUFFIX, STEM-2SUFFIX, .."""
    return next(path for n in itertools.count(1) if not (path := folder / f"{stem}-{n}{suffix}").exists())


def _named(numbers: Sequence[int]) -> str:
    """Name trials in a message: trial 007; trials 003, 005 and 9 more."""
    return f"trial{'s' if len(numbers) > 1 else ''} {listed((f'{number:03d}' for number in numbers), most=5)}"
