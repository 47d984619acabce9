"""The file of a study: any path, waits for locks, and errors in one line."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from pathlib import Path

import optuna
import pytest

from nmt.errors import UserError
from tune.spaces.read import load_space
from tune.study.database import open_storage, study_url
from tune.study.study import SearchStudy


@pytest.mark.parametrize("name", ["a?b", "a#b", "a%20b", "50%", "{SCHEMA_VERSION}", "a b&c=d;e", "ü:@"])
def test_a_path_may_hold_any_character(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    path = tmp_path / name / "study.db"
    optuna.create_study(storage=open_storage(path), study_name="s")
    assert optuna.load_study(study_name=None, storage=study_url(path)).study_name == "s"
    assert path.is_file() and [p.name for p in tmp_path.iterdir()] == [name]


def test_two_results_folders_with_a_question_mark_hold_two_studies(tmp_path: Path) -> None:
    for name in ("a?1", "a?2"):
        (tmp_path / name).mkdir()
        optuna.create_study(storage=open_storage(tmp_path / name / "study.db"), study_name=name)
    assert optuna.get_all_study_names(study_url(tmp_path / "a?1/study.db")) == ["a?1"]


@pytest.mark.parametrize("how", ["IMMEDIATE", "EXCLUSIVE"])
def test_a_study_that_another_tool_holds_is_waited_for(tmp_path: Path, space_file: Path, how: str) -> None:
    study = SearchStudy(tmp_path / "study.db", load_space(space_file))
    with contextlib.closing(
        sqlite3.connect(tmp_path / "study.db", isolation_level=None, check_same_thread=False)
    ) as other:
        other.execute(f"BEGIN {how}")
        free = threading.Timer(6, other.rollback)  # sqlite's own limit is 5 s
        free.start()
        study.next_job()
        free.join()
    assert len(study.trials()) == 1 and study.error is None


def test_a_study_that_is_held_for_minutes_ends_with_one_line(
    tmp_path: Path, space_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tune.study.database.LOCKED_SECONDS", 0.1)
    study = SearchStudy(tmp_path / "study.db", load_space(space_file))
    with contextlib.closing(sqlite3.connect(tmp_path / "study.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert study.trials() == []  # reading is free
        with pytest.raises(UserError, match="study.db: another program holds it") as told:
            study.next_job()
        assert study.error is told.value
        other.execute("COMMIT")
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(UserError, match="study.db: another program holds it"):
            study.next_job()
        with pytest.raises(UserError, match="study.db: another program holds it"):
            open_storage(tmp_path / "study.db")
    study.next_job()
    assert len(study.trials()) == 1


def test_a_study_that_is_damaged_in_use_is_one_line(tmp_path: Path, space_file: Path) -> None:
    study = SearchStudy(tmp_path / "study.db", load_space(space_file))
    study.next_job()
    with (tmp_path / "study.db").open("r+b") as file:
        file.write(b"garbage " * 9999)
    with pytest.raises(UserError, match="study.db: damaged .* --resume, which restores it") as told:
        study.report(0, 1, 0.5)  # the trials themselves are kept in memory
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("content", [b"garbage " * 999])
def test_a_file_that_is_no_study_is_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "study.db").write_bytes(content)
    with pytest.raises(UserError, match="study.db: damaged"):
        open_storage(tmp_path / "study.db")


def test_a_study_of_another_version_of_optuna_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    optuna.create_study(storage=open_storage(path), study_name="s")
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'v0.9.0.a'")
        connection.commit()
    with pytest.raises(UserError, match="study.db: .*optuna") as told:
        open_storage(path)
    assert "\n" not in str(told.value)
