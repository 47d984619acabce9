"""Open the file of an Optuna study, so that each of its errors is one line that names it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sqlalchemy
import sqlalchemy.event
import sqlalchemy.exc
from optuna.storages import RDBStorage

from nmt.errors import UserError, one_line
from nmt.io.database import LOCKED_SECONDS, database_error


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
