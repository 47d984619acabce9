"""The copy of a study that a search keeps."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from nmt.errors import UserError
from tune.results.backup import back_up
from tune.results.layout import stays_here


@pytest.fixture
def study(tmp_path: Path) -> Path:
    connection = sqlite3.connect(tmp_path / "study.db")
    connection.execute("CREATE TABLE studies (study_id INTEGER, study_name TEXT)")
    connection.execute("CREATE TABLE trials (study_id INTEGER)")
    connection.commit()
    connection.close()
    return tmp_path / "study.db"


def test_the_backup_is_a_whole_copy_and_nothing_else_is_left(study: Path) -> None:
    for _ in range(2):
        back_up(study.parent)
    assert {path.name for path in study.parent.iterdir()} == {"study.db", "study.backup.db"}
    assert (study.parent / "study.backup.db").stat().st_size == study.stat().st_size


@pytest.mark.parametrize("content", [b"garbage " * 999, b"", None])
def test_a_damaged_or_lost_study_never_replaces_its_backup(study: Path, content: bytes | None) -> None:
    back_up(study.parent)
    before = (study.parent / "study.backup.db").read_bytes()
    if content is None:
        study.unlink()
    else:
        study.write_bytes(content)
    with pytest.raises(UserError, match=r"study.db: .*continue with --resume"):
        back_up(study.parent)
    assert (study.parent / "study.backup.db").read_bytes() == before
    assert not list(study.parent.glob(".*")) and study.exists() == (content is not None)


def test_copies_of_the_study_are_not_uploaded() -> None:
    names = ["study.backup.db", "study.damaged-1.db", "study.db-journal", ".lock", "study.db", "search.json"]
    assert [name for name in names if not stays_here(name)] == ["study.db", "search.json"]
