"""Searches that go on after their study was lost, damaged or held, and with another data set: real ones."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tune
from nmt.errors import FailedError, UserError
from nmt.training.history import read_metrics
from nmt.training.loop import train
from tune.driver.restored import last_summary, mend_metrics, restore_study
from tune.driver.search import run_search
from tune.results.ended import Ended, write_ended
from tune.spaces.read import load_space
from tune.spaces.space import Space


@pytest.fixture(scope="module")
def finished(
    ray_running: None, tiny_data: Path, tmp_path_factory: pytest.TempPathFactory, space_text: str
) -> tuple[Space, Path]:
    """The space and the results of a finished search."""
    root = tmp_path_factory.mktemp("finished")
    (root / "tiny.toml").write_text(space_text)
    space = load_space(root / "tiny.toml")
    run_search(space, results=root / "results?50%#1", data=tiny_data)
    return space, root / "results?50%#1"


@pytest.fixture
def results(finished: tuple[Space, Path], tmp_path: Path) -> Path:
    """A copy of the results, to go on with."""
    return Path(shutil.copytree(finished[1], tmp_path / "results"))


def garbage(directory: Path) -> None:
    (directory / "study.db").write_bytes(b"garbage " * 999)


def empty(directory: Path) -> None:
    (directory / "study.db").write_bytes(b"")


def lost(directory: Path) -> None:
    (directory / "study.db").unlink()
    (directory / "study.backup.db").unlink()


def both_cut(directory: Path) -> None:
    for name in ("study.db", "study.backup.db"):
        content = (directory / name).read_bytes()
        (directory / name).write_bytes(content[: len(content) // 2])


def trained(directory: Path) -> dict[str, Any]:
    """Trial -> what it was trained with, and what came of it, from its folder."""
    return {
        path.parent.name: (
            json.loads(path.read_text())["optim"]["lr"],
            [m["val/accuracy"] for m in read_metrics(path.parent)],
        )
        for path in directory.glob("trials/*/config.json")
    }


def check_told_as_trained(directory: Path) -> None:
    """Study, summary and folders say the same of every trial."""
    study, summary = tune.open_study(directory), tune.load_summary(directory)
    for trial, record in zip(study.trials, summary.trials, strict=True):
        lr, values = trained(directory)[record.id]
        assert trial.params["optim.lr"] == record.searched["optim.lr"] == lr
        assert list(trial.intermediate_values.values()) == values and record.accuracy == max(values)
        assert trial.state.name == record.state


@pytest.mark.slow
@pytest.mark.parametrize("damage", [garbage, empty, lost, both_cut])
def test_a_search_goes_on_after_its_study_is_lost(
    results: Path, finished: tuple[Space, Path], tiny_data: Path, damage: Callable[[Path], None]
) -> None:
    directory, before = results / "tiny", tune.load_summary(results / "tiny")
    earlier = trained(directory)
    damage(directory)
    summary = run_search(finished[0], results=results, data=tiny_data, trials=7, resume=True)
    assert summary.finished and len(summary.trials) == 7
    assert [(t.searched, t.state) for t in summary.trials[:5]] == [(t.searched, t.state) for t in before.trials]
    assert earlier.items() <= trained(directory).items()  # nothing was trained again
    check_told_as_trained(directory)
    assert sum("study.db" in line for line in (directory / "search.log").read_text().splitlines()) == 1


@pytest.mark.slow
def test_a_finished_search_gets_its_study_back_without_training(
    results: Path, finished: tuple[Space, Path], tiny_data: Path
) -> None:
    before = [(t.params, t.state, t.value) for t in tune.open_study(results / "tiny").trials]
    lost(results / "tiny")
    run_search(finished[0], results=results, data=tiny_data, resume=True)
    assert [(t.params, t.state, t.value) for t in tune.open_study(results / "tiny").trials] == before


@pytest.mark.slow
def test_an_older_backup_is_completed_by_the_search(
    results: Path, finished: tuple[Space, Path], tiny_data: Path
) -> None:
    directory, early = results / "tiny", results / "early.db"
    shutil.copyfile(directory / "study.backup.db", early)
    run_search(finished[0], results=results, data=tiny_data, trials=8, resume=True)
    earlier = trained(directory)
    garbage(directory)
    early.replace(directory / "study.backup.db")
    summary = run_search(finished[0], results=results, data=tiny_data, trials=9, resume=True)
    assert len(summary.trials) == 9 and earlier.keys() <= trained(directory).keys()
    assert all(trained(directory)[name][0] == lr for name, (lr, _) in earlier.items())
    check_told_as_trained(directory)


@pytest.mark.slow
def test_results_may_have_any_name(finished: tuple[Space, Path]) -> None:
    root = finished[1].parent
    assert {path.name for path in root.iterdir()} == {"tiny.toml", "results?50%#1"}
    check_told_as_trained(finished[1] / "tiny")


@pytest.mark.slow
def test_a_search_waits_for_a_tool_that_holds_its_study(
    results: Path, finished: tuple[Space, Path], tiny_data: Path
) -> None:
    with contextlib.closing(
        sqlite3.connect(results / "tiny/study.db", isolation_level=None, check_same_thread=False)
    ) as other:
        other.execute("BEGIN IMMEDIATE")
        free = threading.Timer(20, other.rollback)
        free.start()
        summary = run_search(finished[0], results=results, data=tiny_data, trials=6, resume=True)
        free.join()
    assert summary.finished and len(summary.trials) == 6


@pytest.mark.slow
def test_a_search_whose_study_is_held_for_minutes_ends_in_one_line(
    results: Path, finished: tuple[Space, Path], tiny_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tune.study.database.LOCKED_SECONDS", 0.5)
    with contextlib.closing(sqlite3.connect(results / "tiny/study.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(FailedError, match=r"tiny/study.db: another program holds it") as told:
            run_search(finished[0], results=results, data=tiny_data, trials=6, resume=True)
    assert "\n" not in str(told.value)
    assert run_search(finished[0], results=results, data=tiny_data, trials=6, resume=True).finished


@pytest.mark.slow
def test_another_data_set_is_refused_on_resume_and_for_a_confirmation(
    results: Path, finished: tuple[Space, Path], other_data: Path
) -> None:
    before = trained(results / "tiny")
    for again in (
        lambda: run_search(finished[0], results=results, data=other_data, trials=7, resume=True),
        lambda: tune.run_confirm(results / "tiny", data=other_data, top=1, seeds=3),
    ):
        with pytest.raises(UserError, match=rf"tiny: trained on the data set \w+ .*, but {other_data} is") as told:
            again()
        assert "\n" not in str(told.value)
    assert trained(results / "tiny") == before and not (results / "tiny/confirm/runs").exists()


@pytest.mark.slow
def test_damaged_metrics_of_a_trial_are_written_anew_from_the_record_of_its_end(
    results: Path, finished: tuple[Space, Path], tiny_data: Path
) -> None:
    before = trained(results / "tiny")
    for name in ("001", "003"):
        (results / "tiny/trials" / name / "metrics.jsonl").write_bytes(b"\0" * 300 + b"\n")
    run_search(finished[0], results=results, data=tiny_data, trials=6, resume=True)
    assert before.items() <= trained(results / "tiny").items()
    check_told_as_trained(results / "tiny")
    (results / "tiny/trials/001/metrics.jsonl").write_bytes(b"\0" * 300 + b"\n")
    (results / "tiny/trials/001/checkpoint.pt").write_bytes(b"")
    (results / "tiny/trials/001/ended.json").unlink()
    with pytest.raises(UserError, match=r"001/metrics.jsonl: not the metrics of a training .* put back a copy"):
        run_search(finished[0], results=results, data=tiny_data, trials=7, resume=True)


def test_damaged_metrics_of_a_trial_that_has_not_ended_are_written_anew_from_its_checkpoint(
    space_file: Path, tiny_data: Path, tmp_path: Path
) -> None:
    train(load_space(space_file).base, data=tiny_data, directory=tmp_path, until=2)
    before = read_metrics(tmp_path)
    (tmp_path / "metrics.jsonl").write_bytes(b"\0" * 300 + b"\n")
    mend_metrics(tmp_path)
    assert read_metrics(tmp_path) == before and len(before) == 2


@pytest.mark.parametrize("lines", [[1], [1, 2, 2], [2], [], [1, 9]])
def test_metrics_of_an_ended_trial_that_differ_from_the_record_of_its_end_are_written_anew(
    tmp_path: Path, lines: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    history = [{"epoch": 1, "val/accuracy": 0.5}, {"epoch": 2, "val/accuracy": float("nan")}]
    write_ended(tmp_path, Ended(state="PRUNED", reason=None, history=history))
    written = {1: history[0], 2: history[1], 9: {"epoch": 2, "val/accuracy": 0.9}}
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(written[line]) + "\n" for line in lines))
    with caplog.at_level("INFO"):
        mend_metrics(tmp_path)
        mend_metrics(tmp_path)
    assert json.dumps(read_metrics(tmp_path)) == json.dumps(history)
    assert caplog.messages == [f"{tmp_path}/metrics.jsonl: damaged, and written anew from ended.json beside it"]


def test_a_search_that_has_not_begun_has_nothing_to_restore(space_file: Path, tmp_path: Path) -> None:
    assert restore_study(load_space(space_file), tmp_path / "tiny") is None
    assert not (tmp_path / "tiny").exists()


def test_a_damaged_summary_is_made_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert last_summary(tmp_path) is None
    (tmp_path / "summary.json").write_text('{"trials": [')
    with caplog.at_level("INFO"):
        assert last_summary(tmp_path) is None
    (line,) = caplog.messages
    assert "summary.json: not the summary of a search" in line and "it is written anew" in line


def test_a_study_that_is_not_there_or_damaged_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist: no search has run there"):
        tune.open_study(tmp_path)
    (tmp_path / "study.db").write_bytes(b"garbage " * 99)
    with pytest.raises(UserError, match="study.db: damaged"):
        tune.open_study(tmp_path)
