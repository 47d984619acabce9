"""A lost or damaged study: restored from its backup, made again from the folders of its trials, or refused."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
import sqlite3
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from nmt.config import to_dict
from nmt.errors import UserError
from nmt.io.database import copy_database
from nmt.io.files import write_json
from nmt.training.history import Progress, write_metrics
from tests.tune_tests.study.plays import COUNTABLE, play
from tune.spaces.fidelity import Promoted
from tune.spaces.read import load_space
from tune.spaces.space import Space
from tune.study.database import study_url
from tune.study.halving import Pause
from tune.study.restore import Remains, fault_of, restore
from tune.study.study import Job, SearchStudy


@pytest.fixture
def space(space_file: Path) -> Space:
    """A search that promotes, over values that all samplers can draw."""
    lr = (
        '"optim.lr" = { low = 1e-5, high = 1e-1, log = true }\n"loss.layer_weighting" = { values = ["flat", "linear"] }'
    )
    text = space_file.read_text()
    assert lr in text
    space_file.write_text(text.replace(lr, '"optim.lr" = { low = 1e-5, high = 1e-1, log = true }' + COUNTABLE))
    space = load_space(space_file)
    search = dataclasses.replace(space.search, trials=9, scheduler="asha", sampler="tpe", reduction_factor=2)
    return dataclasses.replace(space, search=search)


def remains(place: Path, records: dict[int, dict[str, Any]] | None = None, *, finished: bool = False) -> Remains:
    return Remains(
        study=place / "study.db", backup=place / "study.backup.db", trials=place / "trials", damaged="study.damaged",
        set_aside=place / "set_aside", records=records or {}, finished=finished,
    )  # fmt: skip


def train(place: Path, study: SearchStudy) -> None:
    """Leave the folder of each trial as its training does."""
    for trial in study.trials():
        folder = place / "trials" / f"{trial.number:03d}"
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "config.json", to_dict(study.configuration(trial.number)))
        history = [
            {"epoch": e, "val/accuracy": v, "seconds": 2.0 * e, "decode/epsilon": 0.2}
            for e, v in sorted(trial.intermediate_values.items())
        ]
        write_metrics(folder, Progress(history=history))


@pytest.fixture
def played(tmp_path: Path, space: Space) -> Path:
    """A search in the middle of its work: complete, paused and begun trials, with their folders."""
    study = SearchStudy(tmp_path / "study.db", space)
    play(study, jobs=9)
    job = study.next_job()
    assert isinstance(job, Job) and not study.trial(job.number).intermediate_values
    train(tmp_path, study)
    return tmp_path


def trials(study: Path) -> list[FrozenTrial]:
    """What Optuna's own reader finds."""
    return optuna.load_study(study_name="tiny", storage=study_url(study)).trials


def seen(study: Path) -> list[tuple[Any, ...]]:
    return [
        (t.number, t.state, t.params, t.distributions, t.value, t.intermediate_values, t.user_attrs["until"])
        for t in trials(study)
    ]


def sql(path: Path, *commands: str) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        for command in commands:
            connection.execute(command)
        connection.commit()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5000])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[4096:8192] = bytes(4096)
    path.write_bytes(content)


def other_study(path: Path) -> None:
    path.unlink()
    optuna.create_study(storage=study_url(path), study_name="someone else's")


FAULTS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "missing": (Path.unlink, "is missing"),
    "empty": (lambda path: path.write_bytes(b""), "is empty"),
    "garbage": (lambda path: path.write_bytes(b"garbage " * 4000), "is damaged (file is not a database)"),
    "zeros": (lambda path: path.write_bytes(bytes(path.stat().st_size)), "is damaged"),
    "cut": (cut, "is damaged"),
    "half a page": (lambda path: path.write_bytes(path.read_bytes()[:700]), "is damaged"),
    "a page of zeros": (flip, "is damaged"),
    "another program's": (lambda path: (path.unlink(), sql(path, "CREATE TABLE notes (a)")), "is damaged"),
    "another study": (other_study, "holds no study 'tiny', but \"someone else's\""),
    "renamed": (lambda path: sql(path, "UPDATE studies SET study_name = 'x'"), "holds no study 'tiny', but 'x'"),
    "no studies": (lambda path: sql(path, "DELETE FROM studies"), "holds no study 'tiny', but none"),
    "no table": (lambda path: sql(path, "DROP TABLE trial_params"), "is damaged (no such table: trial_params)"),
    "a trial removed": (lambda path: sql(path, "DELETE FROM trials WHERE number = 1"), "lacks 1 of its trials"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_study_is_restored_from_its_backup_and_kept(played: Path, space: Space, fault: str) -> None:
    damage, told = FAULTS[fault]
    before = seen(played / "study.db")
    copy_database(played / "study.db", played / "study.backup.db")
    damage(played / "study.db")
    content = (played / "study.db").read_bytes() if fault != "missing" else None
    (line,) = restore(remains(played), space)
    assert told in line and "restored from study.backup.db" in line and "\n" not in line
    assert seen(played / "study.db") == before
    kept = list(played.glob("study.damaged*"))
    assert [path.read_bytes() for path in kept] == ([content] if content is not None else [])
    assert all(path.name in line for path in kept)
    assert restore(remains(played), space) == []


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("backup", ["missing", "garbage"])
def test_without_a_backup_the_study_is_made_again_from_the_folders(
    played: Path, space: Space, fault: str, backup: str
) -> None:
    before = seen(played / "study.db")
    if backup == "garbage":
        (played / "study.backup.db").write_bytes(b"garbage " * 4000)
    FAULTS[fault][0](played / "study.db")
    optuna.logging.set_verbosity(optuna.logging.INFO)
    (line,) = restore(remains(played), space)
    assert optuna.logging.get_verbosity() == optuna.logging.WARNING  # no line of Optuna's own
    assert f"made again from the folders of {len(before)} trials" in line
    assert seen(played / "study.db") == before
    complete = [t for t in trials(played / "study.db") if t.state == TrialState.COMPLETE]
    assert complete and all(t.user_attrs["decode.epsilon"] == 0.2 and t.user_attrs["seconds"] == 8.0 for t in complete)


@pytest.mark.parametrize("sampler", ["tpe", "random", "qmc", "gp"])
@pytest.mark.parametrize("jobs", [1, 5, 12])
def test_a_study_made_again_goes_on_as_the_lost_one_would_have(
    tmp_path: Path, space: Space, sampler: str, jobs: int
) -> None:
    space = dataclasses.replace(space, search=dataclasses.replace(space.search, sampler=sampler))
    whole = play(SearchStudy(tmp_path / "whole.db", space))
    study = SearchStudy(tmp_path / "study.db", space)
    begun = play(study, jobs=jobs)
    train(tmp_path, study)
    (tmp_path / "study.db").unlink()
    restore(remains(tmp_path), space)
    assert begun + play(SearchStudy(tmp_path / "study.db", space)) == whole


def test_an_older_backup_is_completed_from_the_folders(played: Path, space: Space, tmp_path: Path) -> None:
    copy_database(played / "study.db", played / "study.backup.db")
    study = SearchStudy(played / "study.db", space)
    play(study)
    train(played, study)
    before = seen(played / "study.db")
    known = len(trials(played / "study.backup.db"))
    assert known < len(before)
    (played / "study.db").write_bytes(b"")
    first, second = restore(remains(played), space)
    assert "is empty: restored from" in first and f"added trials {known:03d}" in second
    assert seen(played / "study.db")[known:] == before[known:]
    assert [params for _, _, params, *_ in seen(played / "study.db")] == [params for _, _, params, *_ in before]
    assert not (played / "set_aside").exists()


def test_folders_that_a_restored_study_cannot_take_are_set_aside(played: Path, space: Space) -> None:
    known = len(trials(played / "study.db"))
    far = played / "trials" / f"{known + 1:03d}"
    for _ in range(2):  # the name may be taken already
        shutil.copytree(played / "trials/001", far)
        (line,) = restore(remains(played), space)
        assert far.name in line and "set_aside" in line
        assert not far.exists() and len(trials(played / "study.db")) == known
    assert len(list((played / "set_aside").glob(f"{far.name}*/metrics.jsonl"))) == 2


def test_a_promoted_trial_remembers_the_trial_it_comes_from(tmp_path: Path, space: Space) -> None:
    given = (Promoted(origin="features/007", params={"optim.lr": 0.01, "model.decoder_layers": 2, "loss.layer": 0.0}),)
    space = dataclasses.replace(space, given=given)
    study = SearchStudy(tmp_path / "study.db", space)
    play(study, jobs=3)
    train(tmp_path, study)
    before = [(t.params, t.user_attrs.get("origin")) for t in trials(tmp_path / "study.db")]
    assert [origin for _, origin in before] == [None, "features/007"]
    (tmp_path / "study.db").unlink()
    restore(remains(tmp_path), space)
    assert [(t.params, t.user_attrs.get("origin")) for t in trials(tmp_path / "study.db")] == before


def test_repeats_with_a_fresh_seed_are_made_again_as_repeats(tmp_path: Path, space: Space) -> None:
    space = dataclasses.replace(space, search=dataclasses.replace(space.search, reselect=2))
    study = SearchStudy(tmp_path / "study.db", space)
    play(study)
    train(tmp_path, study)
    before = [(t.params, t.user_attrs.get("seed"), t.user_attrs["until"]) for t in trials(tmp_path / "study.db")]
    assert sum(seed is not None for _, seed, _ in before) == 2
    (tmp_path / "study.db").unlink()
    restore(remains(tmp_path), space)
    after = [(t.params, t.user_attrs.get("seed"), t.user_attrs["until"]) for t in trials(tmp_path / "study.db")]
    assert after == before and SearchStudy(tmp_path / "study.db", space).next_job() is Pause.FINISHED


@pytest.mark.parametrize("lost", [0, 2])
def test_a_gap_in_the_folders_is_refused_and_nothing_is_touched(played: Path, space: Space, lost: int) -> None:
    shutil.rmtree(played / f"trials/{lost:03d}")
    (played / "study.db").write_bytes(b"garbage")
    with pytest.raises(
        UserError, match=rf"study.db is damaged .*configuration of trial 00{lost} is missing.* put back"
    ) as told:
        restore(remains(played), space)
    assert "\n" not in str(told.value)
    assert (played / "study.db").read_bytes() == b"garbage" and not list(played.glob("study.damaged*"))


def test_the_summary_knows_trials_that_left_no_folder(played: Path, space: Space) -> None:
    before = trials(played / "study.db")
    study = SearchStudy(played / "study.db", space)
    plain = to_dict(study.configuration(2))
    records = {2: {"state": "FAIL", "configuration": plain, "reason": "the loss is no longer finite"}}
    shutil.rmtree(played / "trials/002")
    (played / "study.db").unlink()
    restore(remains(played, records), space)
    found = trials(played / "study.db")[2]
    assert found.params == before[2].params and found.state == TrialState.FAIL
    assert found.user_attrs["reason"] == "the loss is no longer finite"


def test_a_trial_that_only_the_summary_knows_is_not_forgotten(played: Path, space: Space) -> None:
    shutil.rmtree(played / "trials")
    (played / "study.db").unlink()
    with pytest.raises(UserError, match="the configuration of trials 000, 001 is missing"):
        restore(remains(played, {1: {"state": "PRUNED"}}), space)


@pytest.mark.parametrize(("finished", "state"), [(True, TrialState.PRUNED), (False, TrialState.WAITING)])
def test_a_paused_trial_of_a_finished_search_has_ended(
    played: Path, space: Space, finished: bool, state: TrialState
) -> None:
    number = next(t.number for t in trials(played / "study.db") if t.state == TrialState.WAITING)
    values = trials(played / "study.db")[number].intermediate_values
    (played / "study.db").unlink()
    restore(remains(played, {number: {"state": "PRUNED"}}, finished=finished), space)
    found = trials(played / "study.db")[number]
    assert found.state == state and found.intermediate_values == values
    assert found.value == (values[max(values)] if finished else None)


def test_a_paused_trial_of_a_study_made_again_has_a_duration_at_its_end(played: Path, space: Space) -> None:
    number = next(t.number for t in trials(played / "study.db") if t.state == TrialState.WAITING)
    (played / "study.db").unlink()
    restore(remains(played), space)
    assert all(trial.datetime_start is not None for trial in trials(played / "study.db"))
    SearchStudy(played / "study.db", space).finish(number, TrialState.PRUNED, {"seconds": 3.0})
    assert trials(played / "study.db")[number].duration == timedelta(seconds=3)


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("train.epochs", 7, "train.epochs is 7 in it and 4 now"),
        ("optim.lr", 0.5, "not a configuration of this search"),
        ("optim.lr", 5.0, "optim.lr must be a number above 0 and at most 1"),
        ("model.decoder_layers", 9, "not a configuration of this search"),
    ],
)
def test_a_folder_of_another_search_is_refused(played: Path, space: Space, key: str, value: Any, told: str) -> None:
    path = played / "trials/001/config.json"
    config = json.loads(path.read_text())
    branch, _, name = key.partition(".")
    config[branch][name] = value
    path.write_text(json.dumps(config))
    (played / "study.db").unlink()
    with pytest.raises(UserError, match=f"trials/001/config.json: .*{told}"):
        restore(remains(played), space)
    assert not (played / "study.db").exists()


def test_nothing_was_lost_where_no_trial_has_begun(tmp_path: Path, space: Space) -> None:
    assert restore(remains(tmp_path), space) == [] and not (tmp_path / "study.db").exists()
    (tmp_path / "study.db").write_bytes(b"")  # killed while it was made
    (line,) = restore(remains(tmp_path), space)
    assert "no trial has begun: a new study begins" in line and not (tmp_path / "study.db").exists()


def test_left_journals_are_not_applied_to_the_restored_study(played: Path, space: Space) -> None:
    copy_database(played / "study.db", played / "study.backup.db")
    (played / "study.db").write_bytes(b"garbage")
    for name in ("study.db-journal", "study.db-wal", "study.db-shm"):
        (played / name).write_bytes(b"left over")
    restore(remains(played), space)
    assert not list(played.glob("study.db-*")) and len(trials(played / "study.db")) > 1


def test_a_study_that_another_program_holds_is_not_called_damaged(
    played: Path, space: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nmt.io.database.LOCKED_SECONDS", 0.1)
    before = seen(played / "study.db")
    with contextlib.closing(sqlite3.connect(played / "study.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(UserError, match="study.db: another program holds it"):
            fault_of(played / "study.db", "tiny")
        with pytest.raises(UserError, match="study.db: another program holds it"):
            restore(remains(played), space)
    assert seen(played / "study.db") == before and fault_of(played / "study.db", "tiny") is None


def test_a_configuration_that_the_summary_reports_otherwise_is_refused(played: Path, space: Space) -> None:
    records = {
        t.number: {"state": t.state.name, "configuration": configuration(played, t.number)}
        for t in trials(played / "study.db")
    }
    (played / "study.db").unlink()
    path = played / "trials/002/config.json"
    content = json.loads(path.read_text())
    before = content["optim"]["lr"]
    content["optim"]["lr"] = 0.05
    path.write_text(json.dumps(content))
    with pytest.raises(
        UserError,
        match=rf"002/config.json: not the configuration that the last .*optim.lr is 0.05 in it and {before} now",
    ):
        restore(remains(played, records), space)
    assert not (played / "study.db").exists()


def configuration(place: Path, number: int) -> Any:
    return json.loads((place / f"trials/{number:03d}/config.json").read_text())
