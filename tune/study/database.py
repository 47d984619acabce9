"""Open the file of an Optuna study, so that each of its errors is one line that names it."""

from __future__ import annotations

import contextlib
import datetime
import sqlite3
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
import sqlalchemy.event
import sqlalchemy.exc
from optuna.storages import RDBStorage
from optuna.trial import TrialState

from nmt.errors import UserError, one_line
from nmt.io.database import LOCKED_SECONDS, database_error

NOTE = (
    "Optuna's importance and plots read the COMPLETE trials alone, which early stopping has chosen. "
    "run.py --report has the importance over all trials, at a common rung."
)
"""attribute `note` of every study, for people who open it with other tools"""


def study_url(path: Path) -> str:
    """Return the address of a study for Optuna. The path may hold any character: `?` and `%` are quoted."""
    return sqlalchemy.URL.create("sqlite", database=str(path)).render_as_string(hide_password=False)


def open_storage(path: Path, *, failed: Callable[[UserError], None] = lambda error: None) -> RDBStorage:
    """Open the file of a study, or create it. Every access waits for a program that holds it.

    Args:
        failed: called with each error of a later access, before it is raised. Ray keeps no more than its text.

    Raises:
        UserError: here, and from each later access: the file is damaged, full, not writable or held for minutes.
    """
    try:
        storage = RDBStorage(study_url(path), engine_kwargs={"connect_args": {"timeout": LOCKED_SECONDS}})
    except sqlalchemy.exc.DBAPIError as error:
        if isinstance(error.orig, sqlite3.Error):
            raise database_error(path, error.orig) from error
        raise
    except RuntimeError as error:  # written by another version of Optuna
        raise UserError(f"{path}: {one_line(error)}") from error

    def in_one_line(context: Any) -> None:
        error = context.original_exception
        if type(error) in (sqlite3.OperationalError, sqlite3.DatabaseError):  # not IntegrityError: Optuna expects it
            told = database_error(path, error)
            failed(told)
            raise told

    sqlalchemy.event.listen(storage.engine, "handle_error", in_one_line)
    return storage


def label(study: optuna.Study, metrics: Sequence[str], attributes: Mapping[str, Any]) -> None:
    """Write what other tools show of a study: the names of its values, and its attributes with NOTE."""
    with warnings.catch_warnings():  # the method is experimental
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names(list(metrics))
    known = study.user_attrs
    for name, value in {"note": NOTE, **attributes}.items():
        if known.get(name) != value:
            study.set_user_attr(name, value)


def write_state(storage: RDBStorage, trial_id: int, state: TrialState) -> None:
    """Set the state of an unfinished trial: RUNNING, or WAITING while it has no job. Its start stays as it was.

    Optuna itself would set the start to now whenever a waiting trial runs again. Only other tools read this state, so
    a full disk leaves it as it is.
    """
    statement = "UPDATE trials SET state = :new WHERE trial_id = :id AND state IN ('RUNNING', 'WAITING')"
    with contextlib.suppress(UserError), storage.engine.begin() as connection:
        connection.execute(sqlalchemy.text(statement), {"new": state.name, "id": trial_id})


def park(storage: RDBStorage, study_id: int) -> None:
    """Make the RUNNING trials of a study WAITING: their jobs ended with the process of an earlier run."""
    with storage.engine.begin() as connection:
        connection.execute(
            sqlalchemy.text("UPDATE trials SET state = 'WAITING' WHERE study_id = :id AND state = 'RUNNING'"),
            {"id": study_id},
        )


def write_duration(storage: RDBStorage, trial_id: int, seconds: float | None) -> None:
    """Set the end of a finished trial so that its duration is what it trained, without the time it waited.

    Args:
        seconds: its training time; None if it has trained no epoch, which leaves its end as it is.
    """
    start = storage.get_trial(trial_id).datetime_start
    if start is None or seconds is None:
        return
    end = start + datetime.timedelta(seconds=seconds)
    with storage.engine.begin() as connection:
        connection.execute(
            sqlalchemy.text("UPDATE trials SET datetime_complete = :end WHERE trial_id = :id"),
            {"end": end.isoformat(sep=" ", timespec="microseconds"), "id": trial_id},
        )
