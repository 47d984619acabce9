"""Databases in one file: copies while others write, damage, and locks."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from nmt.errors import TemporaryError, UserError
from nmt.io.database import copy_database, database_error, is_damage, open_database

ROWS = 500


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "a?b#c%20d.db"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT)")
        connection.executemany("INSERT INTO notes (text) VALUES (?)", [("x" * 100,)] * ROWS)
        connection.commit()
    return path


@contextlib.contextmanager
def held(path: Path, how: str) -> Iterator[sqlite3.Connection]:
    """Another program's transaction."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        other.execute(f"BEGIN {how}")
        yield other


def count(path: Path) -> int:
    with contextlib.closing(open_database(path)) as connection:
        return int(connection.execute("SELECT COUNT(*) FROM notes").fetchone()[0])


def test_a_copy_is_whole_and_leaves_nothing_beside_it(database: Path, tmp_path: Path) -> None:
    copy_database(database, tmp_path / "copy.db")
    assert count(tmp_path / "copy.db") == ROWS
    assert {path.name for path in tmp_path.iterdir()} == {database.name, "copy.db"}


def test_a_copy_holds_what_was_committed_while_another_writes(database: Path, tmp_path: Path) -> None:
    with held(database, "IMMEDIATE") as other:
        other.execute("DELETE FROM notes")
        copy_database(database, tmp_path / "copy.db")
    assert count(tmp_path / "copy.db") == ROWS


def test_a_held_database_is_waited_for(database: Path, tmp_path: Path) -> None:
    with held(database, "EXCLUSIVE") as other:
        free = threading.Timer(0.5, other.rollback)
        free.start()
        copy_database(database, tmp_path / "copy.db")
        free.join()
    assert count(tmp_path / "copy.db") == ROWS


def test_a_database_that_is_held_for_long_is_one_line(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nmt.io.database.LOCKED_SECONDS", 0.1)
    with held(database, "EXCLUSIVE"), pytest.raises(TemporaryError, match="another program holds it") as told:
        copy_database(database, tmp_path / "copy.db")
    assert str(told.value).startswith(str(database)) and "\n" not in str(told.value)


@pytest.mark.parametrize("content", [b"", b"no database " * 999, None])
def test_a_missing_or_damaged_database_is_not_copied_and_not_made(
    tmp_path: Path, database: Path, content: bytes | None
) -> None:
    other = tmp_path / "other.db"
    if content is not None:
        other.write_bytes(content)
    if content == b"":
        copy_database(other, tmp_path / "copy.db")  # an empty file is an empty database
        return
    with pytest.raises(UserError, match=r"other.db: (damaged|cannot be opened)"):
        copy_database(other, tmp_path / "copy.db")
    assert other.exists() == (content is not None)


@pytest.mark.parametrize("place", [0.2, 0.5, 0.8])
def test_a_copy_of_damaged_pages_is_refused(tmp_path: Path, database: Path, place: float) -> None:
    content = bytearray(database.read_bytes())
    start = int(place * len(content)) // 4096 * 4096
    content[start : start + 4096] = bytes(4096)
    database.write_bytes(content)
    with pytest.raises(UserError, match="damaged"):
        copy_database(database, tmp_path / "copy.db")


def error(code: int) -> sqlite3.Error:
    made = sqlite3.OperationalError("told by sqlite")
    made.sqlite_errorcode = code
    return made


@pytest.mark.parametrize(
    ("code", "told", "damage"),
    [
        (sqlite3.SQLITE_BUSY, "another program holds it", False),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, "another program holds it", False),
        (sqlite3.SQLITE_FULL, "cannot be written", False),
        (sqlite3.SQLITE_READONLY, "cannot be written", False),
        (sqlite3.SQLITE_CANTOPEN, "cannot be opened", False),
        (sqlite3.SQLITE_CORRUPT, "damaged", True),
        (sqlite3.SQLITE_NOTADB, "damaged", True),
        (sqlite3.SQLITE_ERROR, "damaged", True),
    ],
)
def test_each_error_says_what_happened(code: int, told: str, damage: bool) -> None:
    found = database_error(Path("study.db"), error(code))
    assert told in str(found) and is_damage(error(code)) == damage
    assert isinstance(found, TemporaryError) and "--resume" in str(found)
