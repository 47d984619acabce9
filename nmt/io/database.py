"""Databases in one file (sqlite): consistent copies, a check for damage, and errors in one line."""

from __future__ import annotations

import contextlib
import sqlite3
import time
import urllib.parse
from pathlib import Path

from nmt.errors import TemporaryError, one_line

LOCKED_SECONDS = 240.0
"""how long to wait for a database that another program holds; less than the 300 s after which a trial counts as hung"""

_HELD = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_ROOM = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY)
_CLOSED = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH, sqlite3.SQLITE_NOMEM)


def open_database(path: Path) -> sqlite3.Connection:
    """Open an existing database. Its first use waits up to LOCKED_SECONDS for another program.

    Raises:
        sqlite3.Error: the file is not there.
    """
    # By default sqlite would make an empty database of a file that is not there.
    address = f"file:{urllib.parse.quote(str(path.absolute()))}?mode=rw"
    return sqlite3.connect(address, uri=True, timeout=LOCKED_SECONDS)


def check_database(connection: sqlite3.Connection) -> None:
    """Read the whole database. Raises sqlite3.DatabaseError if a part of it is missing or damaged."""
    found = str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])
    if found != "ok":
        raise sqlite3.DatabaseError(found)


def copy_database(source: Path, target: Path) -> None:
    """Copy a database as it is at one moment, also while another process writes to it.

    Args:
        source: the database.
        target: the file to create; without a journal, so it is whole only after this returns.

    Raises:
        UserError: the database is missing, damaged or held by another program, or the disk is full.
    """
    deadline = time.monotonic() + LOCKED_SECONDS

    def waited(status: int, remaining: int, total: int) -> None:
        if status in _HELD and time.monotonic() > deadline:
            raise database_error(source, None)

    try:
        with contextlib.closing(open_database(source)) as there, contextlib.closing(sqlite3.connect(target)) as copy:
            copy.execute("PRAGMA journal_mode = OFF")
            copy.execute("PRAGMA synchronous = OFF")
            there.backup(copy, progress=waited)
            check_database(copy)
    except sqlite3.Error as error:
        raise database_error(source, error) from error


def is_damage(error: sqlite3.Error) -> bool:
    """True if the content of the file is at fault, and not the disk, its rights or another program."""
    return _code(error) not in (*_HELD, *_ROOM, *_CLOSED)


def database_error(path: Path, error: sqlite3.Error | None) -> TemporaryError:
    """Return the error of a database in one line. All of them pass once the file is free, whole or has room again.

    Args:
        path: the database.
        error: the error of sqlite; None: another program holds the database.
    """
    code = sqlite3.SQLITE_BUSY if error is None else _code(error)
    if code in _HELD:
        return TemporaryError(
            f"{path}: another program holds it, for over {LOCKED_SECONDS / 60:g} minutes; end that program, then "
            "continue with --resume"
        )
    if code in _ROOM:
        return TemporaryError(
            f"{path}: cannot be written ({one_line(str(error))}); free space or make it writable, then continue with "
            "--resume"
        )
    if code in _CLOSED:
        # Also where no journal can be made beside it, as on a disk that has no room for another file.
        return TemporaryError(
            f"{path}: cannot be opened ({one_line(str(error))}); if its disk is full, free space or files; then "
            "continue with --resume"
        )
    return TemporaryError(f"{path}: damaged ({one_line(str(error))}); continue with --resume, which restores it")


def _code(error: sqlite3.Error) -> int:
    """Return the primary result code of sqlite; CORRUPT for an error that has none."""
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
