"""Interruptions: how often a trial is tried again in a run of the search, and searches in which causes pass."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import optuna
import psutil
import pytest

from nmt.errors import FailedError
from nmt.training.history import read_metrics
from tests.paths import ROOT
from tune.driver.recorder import Recorder
from tune.driver.retries import FREE, Retries
from tune.driver.search import run_search
from tune.results.summary import load_summary
from tune.spaces.read import load_space


def test_a_trial_waits_after_two_interruptions_without_an_epoch_in_between() -> None:
    retries = Retries()
    tried = [retries.interrupted(3, "died", epoch=epoch, counted=True) for epoch in (0, 1, 2, 2)]
    assert tried == [True, True, True, False] and retries.waiting == {3: "died"}
    assert retries.interrupted(4, "died", epoch=0, counted=True)


def test_what_is_no_fault_of_the_job_is_free_but_not_for_ever() -> None:
    retries = Retries()
    tried = [retries.interrupted(3, "died", epoch=0, counted=False) for _ in range(FREE + 2)]
    assert tried == [True] * (FREE + 1) + [False]


def test_the_default_is_taken_up_once_more_when_another_job_has_ended_well() -> None:
    retries = Retries()
    assert retries.again() == []
    for number in (0, 0, 1, 1):
        retries.interrupted(number, "died", epoch=0, counted=True)
    assert retries.again() == [0] and list(retries.waiting) == [1]
    assert not retries.interrupted(0, "died", epoch=0, counted=True)
    assert retries.again() == [] and sorted(retries.waiting) == [0, 1]


def test_the_trials_that_wait_are_one_line_with_the_most_common_reason() -> None:
    retries = Retries()
    retries.waiting = {0: "disk full (3 MB)"}
    assert retries.in_words() == "1 trial was interrupted by: disk full (3 MB)"
    retries.waiting |= {1: "it hung", 2: "disk full (2 MB)"}
    assert retries.in_words() == "3 trials were interrupted, 2 of them by: disk full (3 MB)"


def states(directory: Path) -> list[str]:
    study = optuna.load_study(study_name="tiny", storage=f"sqlite:///{directory / 'study.db'}")
    return [t.state.name for t in study.trials]


def kill_trial_processes() -> None:
    """Kill the processes of trials, busy or idle, and wait until they have ended."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error, IndexError):
            if process.cmdline()[0].startswith("ray::ImplicitFunc"):
                process.kill()
                found.append(process)
    psutil.wait_procs(found, timeout=30)


@pytest.mark.slow
def test_the_death_of_an_idle_process_is_no_failure_of_the_job_that_gets_it(
    ray_running: None, space_file: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """Ray hands the dead process to the next job after each."""
    ended = Recorder.on_trial_complete

    def kill_at_the_end(self: Recorder, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        ended(self, iteration, trials, trial, **info)
        kill_trial_processes()

    monkeypatch.setattr(Recorder, "on_trial_complete", kill_at_the_end)
    monkeypatch.setattr("tune.driver.retries.FAILURES", 1)  # so that a single counted failure were seen
    space_file.write_text(
        space_file.read_text().replace("[search]", '[resources]\ncpus = 2\n[search]\nscheduler = "fifo"')
    )
    summary = run_search(load_space(space_file), results=tmp_path, data=tiny_data, trials=3)
    assert summary.finished and states(tmp_path / "tiny") == ["COMPLETE"] * 3
    assert [line.split()[2] for line in caplog.messages if "its process died" in line] == ["001", "002"]


@pytest.mark.slow
def test_a_default_whose_process_dies_twice_is_tried_again_and_the_rest_goes_on(
    ray_running: None, space_file: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    begun, deaths = Recorder.on_trial_start, 0

    def kill_the_default(self: Recorder, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        nonlocal deaths
        begun(self, iteration, trials, trial, **info)
        if trial.config["number"] == 0 and deaths < 2:
            deaths += 1
            kill_trial_processes()

    monkeypatch.setattr(Recorder, "on_trial_start", kill_the_default)
    space_file.write_text(space_file.read_text().replace("[search]", "[resources]\ncpus = 2\n[search]"))
    summary = run_search(load_space(space_file), results=tmp_path, data=tiny_data, trials=3)
    assert any("it waits for --resume" in line for line in caplog.messages)
    assert summary.finished and summary.default is not None and summary.default.state == "COMPLETE"
    assert [m["epoch"] for m in read_metrics(tmp_path / "tiny/trials/000")] == [1, 2, 3, 4]


@pytest.mark.slow
def test_a_trial_whose_process_always_dies_is_kept_for_resume(
    ray_running: None, space_file: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = Recorder.on_trial_start

    def kill_one(self: Recorder, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        begun(self, iteration, trials, trial, **info)
        if trial.config["number"] == 1:
            kill_trial_processes()

    monkeypatch.setattr(Recorder, "on_trial_start", kill_one)
    text = space_file.read_text().replace("[search]", '[resources]\ncpus = 2\n[search]\nscheduler = "fifo"')
    space_file.write_text(text)
    with pytest.raises(FailedError, match="^1 trial was interrupted by: its process died .*; continue with --resume$"):
        run_search(load_space(space_file), results=tmp_path, data=tiny_data, trials=3)
    assert states(tmp_path / "tiny") == ["COMPLETE", "WAITING", "COMPLETE"]
    assert not load_summary(tmp_path / "tiny").finished
    monkeypatch.undo()
    summary = run_search(load_space(space_file), results=tmp_path, data=tiny_data, resume=True)
    assert summary.finished and states(tmp_path / "tiny") == ["COMPLETE"] * 3


def command(space: Path, data: Path, results: Path, *more: str) -> list[str]:
    return [sys.executable, "run.py", "--search", str(space), "--data", str(data), "--results", str(results), *more]


def fill(disk: Path, what: str) -> None:
    """Leave no room, or no inode, on a mounted tmpfs."""
    used = os.statvfs(disk)
    most = {
        "size": (used.f_blocks - used.f_bfree) * used.f_frsize
        + 65536,  # a little: logs and the study go on for a while
        "nr_inodes": used.f_files - used.f_ffree + 1,
    }[what]
    subprocess.run(["mount", "-o", f"remount,{what}={most}", str(disk)], check=True)


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small disk: root")
@pytest.mark.parametrize("what", ["size", "nr_inodes"])
def test_a_search_on_a_full_disk_ends_in_one_line_and_is_complete_once_there_is_room(
    space_file: Path, tiny_data: Path, tmp_path: Path, what: str
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200m,nr_inodes=9999", "tmpfs", str(disk)], check=True)
    try:
        text = space_file.read_text().replace("d_model = 16", "d_model = 160").replace("heads = 2", "heads = 4")
        space_file.write_text(text.replace("trials = 5", "trials = 3"))
        full = subprocess.Popen(
            command(space_file, tiny_data, disk), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        deadline = time.monotonic() + 120
        while not (disk / "tiny/trials/000/config.json").is_file():
            assert full.poll() is None and time.monotonic() < deadline, full.communicate()
            time.sleep(0.05)
        fill(disk, what)
        said, errors = full.communicate(timeout=300)
        assert full.returncode == 1, said + errors
        assert len(errors.splitlines()) == 1 and "Traceback" not in said and str(disk) in errors
        assert "No space left on device" in errors or "disk is full" in errors
        assert errors.count("continue with --resume") == 1
        assert set(states(disk / "tiny")) <= {"RUNNING", "WAITING"}
        subprocess.run(["mount", "-o", "remount,size=200m,nr_inodes=9999", str(disk)], check=True)
        again = command(space_file, tiny_data, disk, "--resume")
        resumed = subprocess.run(again, cwd=ROOT, capture_output=True, text=True, timeout=300)
        assert resumed.returncode == 0, resumed.stdout + resumed.stderr
        assert load_summary(disk / "tiny").finished and "FAIL" not in states(disk / "tiny")
        assert states(disk / "tiny")[0] == "COMPLETE"
        for record in load_summary(disk / "tiny").trials:
            epochs = [m["epoch"] for m in read_metrics(disk / "tiny/trials" / record.id)]
            assert epochs == list(range(1, record.epochs + 1)) and record.state in ("COMPLETE", "PRUNED")
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small disk: root")
def test_a_search_on_a_disk_of_3_mb_is_refused_until_there_is_room(
    space_file: Path, tiny_data: Path, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(disk)], check=True)
    try:
        text = space_file.read_text().replace("d_model = 16", "d_model = 160").replace("heads = 2", "heads = 4")
        space_file.write_text(text.replace("trials = 5", "trials = 3"))
        search = command(space_file, tiny_data, disk)
        small = subprocess.run(search, cwd=ROOT, capture_output=True, text=True, timeout=300)
        assert small.returncode == 2 and len(small.stderr.splitlines()) == 1, small.stdout + small.stderr
        assert f"{disk}/tiny: the 3 trials of tiny need" in small.stderr and not (disk / "tiny").exists()
        subprocess.run(["mount", "-o", "remount,size=200m", str(disk)], check=True)
        roomy = subprocess.run([*search, "--resume"], cwd=ROOT, capture_output=True, text=True, timeout=300)
        assert roomy.returncode == 0 and load_summary(disk / "tiny").finished, roomy.stdout + roomy.stderr
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
