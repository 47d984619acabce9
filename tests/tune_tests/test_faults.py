"""docs/faults.md names a test for every fault; and the faults of whole searches that no module's own tests show."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from nmt.errors import FailedError, UserError
from nmt.training.history import read_metrics
from nmt.training.tensorboard import TensorBoardLog
from tests.paths import ROOT
from tests.tune_tests.driver.test_recorder import Search, write_metrics
from tune.driver.lines import Lines
from tune.driver.search import run_search
from tune.results.lock import LockedError, only_one
from tune.results.summary import load_summary
from tune.spaces.read import load_space
from tune.spaces.space import Space

PAGE = ROOT / "docs/faults.md"
ROWS = 60
"""faults on the page at least"""
LINK = re.compile(r'\[[^\]]+\]\(([^)\s]+) "([^"]+)"\)')
"""[text](file of tests "function")"""


# --- the page ---


def rows() -> list[list[str]]:
    """The cells of every row of the tables of faults: what fails, what happens, what is lost, shown by."""
    found, inside = [], False
    for line in PAGE.read_text().splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        inside = bool(cells) and (inside or cells[0] == "what fails")
        if inside and cells[0] not in ("what fails", "---"):
            found.append(cells)
    return found


def test_every_fault_on_the_page_has_a_test_that_exists() -> None:
    functions: dict[Path, set[str]] = {}
    for fault, *_, tests in rows():
        links = LINK.findall(tests)
        assert links and not LINK.sub("", tests).strip(", "), f"{fault}: names no test, or more than tests: {tests}"
        for link, function in links:
            path = (PAGE.parent / link).resolve()
            if path not in functions:
                functions[path] = set(re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE))
            assert function in functions[path], f"{fault}: {link} has no {function}"


def test_the_page_has_each_fault_once_and_says_what_it_costs() -> None:
    found = rows()
    assert all(len(row) == 4 for row in found), [row[0] for row in found if len(row) != 4]
    faults = [row[0] for row in found]
    assert len(faults) >= ROWS
    assert len(set(faults)) == len(faults), sorted({fault for fault in faults if faults.count(fault) > 1})
    assert [row[0] for row in found if not row[1] or not row[2]] == []


# --- faults on the level of a search without Ray ---


@pytest.fixture(scope="module")
def space(space_text: str, tmp_path_factory: pytest.TempPathFactory) -> Space:
    path = tmp_path_factory.mktemp("space") / "tiny.toml"
    path.write_text(space_text)
    return load_space(path)


def test_a_trial_whose_folder_is_removed_begins_anew_under_its_number(space: Space, tmp_path: Path) -> None:
    first = Search(tmp_path, space)
    (trial,) = first.begin()
    first.train(0, 2)
    first.event(trial)
    before = first.study.trial(0).params
    shutil.rmtree(tmp_path / "trials/000")
    search = Search(tmp_path, space)
    search.recorder.sync_unfinished()
    (again,) = search.begin()
    assert (again.config["number"], again.config["until"]) == (0, 4) and search.study.trial(0).params == before
    search.train(0, 4)
    search.ended(again)
    (ended,) = search.study.trials()
    assert ended.state == TrialState.COMPLETE and list(ended.intermediate_values) == [1, 2, 3, 4]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\0" * 99])
def test_a_damaged_configuration_of_a_trial_is_one_line_and_nothing_is_reported(
    space: Space, tmp_path: Path, content: bytes
) -> None:
    Search(tmp_path, space).begin()
    write_metrics(tmp_path / "trials/000", [0.9] * 4)
    (tmp_path / "trials/000/config.json").write_bytes(content)
    with pytest.raises(UserError, match="000/config.json") as told:
        Search(tmp_path, space)
    assert "\n" not in str(told.value)


def test_metrics_that_are_damaged_while_a_search_runs_are_its_last_error(space: Space, tmp_path: Path) -> None:
    """Ray keeps only the text of an error in a callback, so the search has to know the error itself."""
    search = Search(tmp_path, space)
    (trial,) = search.begin()
    search.train(0, 2)
    (tmp_path / "trials/000/metrics.jsonl").write_bytes(b"\0" * 200 + b"\n")
    with pytest.raises(UserError, match="000/metrics.jsonl") as told:
        search.event(trial)
    assert search.recorder.folders.error is told.value


@pytest.mark.parametrize("jump", [-86400.0, 86400.0])
def test_a_clock_that_jumps_changes_no_limit(
    space: Space, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    lines, search = Lines(4, earlier_seconds=100.0), Search(tmp_path, space)
    (trial,) = search.begin()
    search.train(0, 1)
    search.event(trial)
    real = time.time()
    monkeypatch.setattr(time, "time", lambda: real + jump)
    monkeypatch.setattr(time, "time_ns", lambda: int((real + jump) * 1e9))
    assert 100 <= lines.seconds() < 200 and not search.recorder.out_of_time()
    search.recorder.health.on_step_end(0, [])
    assert search.recorder.health.hung == {}


def test_an_open_reader_of_tensorboard_follows_a_training_that_is_interrupted_and_resumed(tmp_path: Path) -> None:
    log = TensorBoardLog(tmp_path, first_epoch=1)
    log.scalars({"val/accuracy": 0.5}, 1)
    reader = EventAccumulator(str(tmp_path)).Reload()
    log.scalars({"val/accuracy": 0.6}, 2)
    reader.Reload()
    log.close()
    resumed = TensorBoardLog(tmp_path, first_epoch=2)
    resumed.scalars({"val/accuracy": 0.7}, 2)
    resumed.close()
    assert [(e.step, round(e.value, 1)) for e in reader.Reload().Scalars("val/accuracy")] == [(1, 0.5), (2, 0.7)]


def test_a_folder_has_one_lock_under_all_its_names(tmp_path: Path) -> None:
    (tmp_path / "disk/tiny").mkdir(parents=True)
    (tmp_path / "results").symlink_to(tmp_path / "disk")
    with only_one(tmp_path / "disk/tiny"), pytest.raises(LockedError), only_one(tmp_path / "results/tiny"):
        pytest.fail("both work in the folder")


# --- whole searches ---


def after(condition: Callable[[], object], act: Callable[[], object], seconds: float = 240) -> threading.Thread:
    """Act, in a thread, as soon as the condition holds."""

    def wait() -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                return
            time.sleep(0.02)
        act()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def states(directory: Path) -> list[str]:
    study = optuna.load_study(study_name="tiny", storage=f"sqlite:///{directory / 'study.db'}")
    return [trial.state.name for trial in study.trials]


@pytest.mark.long
@pytest.mark.parametrize("told", ["objects.arrow: not there", "was replaced by the data set"])
def test_a_data_set_that_is_removed_or_replaced_during_a_search_fails_no_trial(
    ray_running: None, space_file: Path, tiny_data: Path, other_data: Path, tmp_path: Path, told: str
) -> None:
    data, away = Path(shutil.copytree(tiny_data, tmp_path / "tiny")), tmp_path / "away"
    text = space_file.read_text().replace("[search]", '[resources]\ncpus = 2\n[search]\nscheduler = "fifo"')
    space_file.write_text(text.replace("trials = 5", "trials = 3"))
    results = tmp_path / "results"

    def take_away() -> None:
        data.rename(away)
        if "replaced" in told:
            shutil.copytree(other_data, data)

    mover = after(lambda: read_metrics(results / "tiny/trials/000"), take_away)
    with pytest.raises(FailedError, match=rf"{told}.*continue with --resume$"):
        run_search(load_space(space_file), results=results, data=data)
    mover.join()
    assert set(states(results / "tiny")) == {"COMPLETE", "WAITING"}
    shutil.rmtree(data, ignore_errors=True)
    away.rename(data)
    summary = run_search(load_space(space_file), results=results, data=data, resume=True)
    assert summary.finished and states(results / "tiny") == ["COMPLETE"] * 3


@pytest.mark.slow
def test_results_that_are_removed_during_a_search_end_it_in_one_line(
    space_file: Path, tiny_data: Path, tmp_path: Path
) -> None:
    results = tmp_path / "results"
    process = start(space_file, tiny_data, results)
    after(
        lambda: (results / "tiny/trials/000/metrics.jsonl").is_file(),
        lambda: shutil.rmtree(results / "tiny", ignore_errors=True),
    ).join()
    output, told = process.communicate(timeout=200)
    assert process.returncode in (1, 2) and "Traceback" not in output + told, output + told
    assert len(told.strip().splitlines()) == 1 and str(results / "tiny") in told


@pytest.mark.long
def test_a_search_below_a_link_is_resumed_below_the_real_folder(
    space_file: Path, tiny_data: Path, tmp_path: Path
) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "results").symlink_to(tmp_path / "disk")
    process = start(space_file, tiny_data, tmp_path / "results")
    after(
        lambda: (tmp_path / "disk/tiny/trials/000/metrics.jsonl").is_file(), lambda: process.send_signal(signal.SIGTERM)
    ).join()
    output, told = process.communicate(timeout=200)
    assert process.returncode == 130 and "Traceback" not in output + told, output + told
    again = start(space_file, tiny_data, tmp_path / "disk", "--resume")
    output, told = again.communicate(timeout=200)
    assert again.returncode == 0, output + told
    assert load_summary(tmp_path / "results/tiny").finished and not {"RUNNING", "WAITING"} & set(
        states(tmp_path / "disk/tiny")
    )


def start(space: Path, data: Path, results: Path, *more: Any) -> subprocess.Popen[str]:
    """A search by the command line, of epochs that take a moment."""
    space.write_text(space.read_text().replace("steps_per_epoch = 4 ", "steps_per_epoch = 40 "))
    command = [sys.executable, "run.py", "--search", space, "--data", data, "--results", results, *more]
    return subprocess.Popen(
        [str(word) for word in command], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
