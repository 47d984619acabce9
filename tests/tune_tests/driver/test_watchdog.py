"""Jobs that hang, trials that all fail, and searches that are asked to stop. Real processes, really stopped."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import optuna
import psutil
import pytest

from nmt import checkpoint
from nmt.errors import FailedError
from nmt.training.history import read_metrics
from tests.paths import ROOT
from tune.driver.search import run_search
from tune.driver.watchdog import Watchdog
from tune.jobs import silence
from tune.results.summary import load_summary
from tune.spaces.read import load_space


def until(condition: Callable[[], object], seconds: float = 240) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"nothing after {seconds} s"
        time.sleep(0.05)


def states(directory: Path) -> list[str]:
    study = optuna.load_study(study_name="tiny", storage=f"sqlite:///{directory / 'study.db'}")
    return [t.state.name for t in study.trials]


def test_the_first_report_of_a_job_is_expected_by_the_epochs_of_all_trials(space_file: Path) -> None:
    health = Watchdog(load_space(space_file).search, stop=pytest.fail)
    assert health.first_seconds == 120 * 60
    health.know(0, [])
    health.know(0, [{"epoch": 2, "seconds": 400.0}])  # of an earlier run of the search
    assert health.first_seconds == 10 * 200
    health.heard(SimpleNamespace(config={"number": 1}), [{"epoch": 1, "seconds": 300.0}])
    assert health.first_seconds == 10 * 250
    health.heard(SimpleNamespace(config={"number": 1}), [{"epoch": 1, "seconds": 300.0}])
    health.heard(SimpleNamespace(config={"number": 2}), [{"epoch": 1, "seconds": 9000.0}])
    health.heard(SimpleNamespace(config={"number": 3}), [{"epoch": 1, "seconds": 9000.0}])
    assert health.first_seconds == 120 * 60


def test_a_driver_that_stood_still_takes_no_job_for_hung(space_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was stopped by Ctrl-Z, its machine was paused, or it waited for a file: nobody could be heard."""
    now, killed = [1000.0], list[object]()
    monkeypatch.setattr("tune.driver.watchdog.time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr("ray.kill", killed.append)
    health = Watchdog(load_space(space_file).search, stop=pytest.fail)
    trial = SimpleNamespace(
        config={"number": 0}, status="RUNNING", temporary_state=SimpleNamespace(ray_actor="its process")
    )
    health.on_trial_start(0, [trial], trial)
    health.heard(trial, [{"epoch": 1, "seconds": 1.0}])  # so its limit is 300 s
    for pause in (250.0, 4000.0, 200.0):
        health.on_step_end(0, [trial])
        now[0] += pause
    assert not killed and not health.hung
    for _ in range(305):
        health.on_step_end(0, [trial])
        now[0] += 1.0
    assert killed == ["its process"] and "no report for 301 s" in health.hung[0]


@pytest.mark.slow
def test_a_trial_that_hangs_is_killed_and_continues_in_another_process(
    ray_running: None, space_file: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.setattr(silence, "LEAST_SECONDS", 20.0)
    monkeypatch.setattr(silence, "FACTOR", 1.0)
    space_file.write_text(space_file.read_text().replace("steps_per_epoch = 4", "steps_per_epoch = 100"))
    stopped: list[int] = []

    def stop() -> None:
        until(lambda: len(read_metrics(tmp_path / "tiny/trials/000")) > 1)  # it has reported one
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):  # one that has just ended
                if "ray::ImplicitFunc" in " ".join(process.cmdline()) and not stopped:
                    os.kill(process.pid, signal.SIGSTOP)
                    stopped.append(process.pid)

    thread = threading.Thread(target=stop, daemon=True)
    thread.start()
    summary = run_search(load_space(space_file), results=tmp_path, data=tiny_data, trials=3)
    thread.join()
    (told,) = [line for line in caplog.messages if "it hung: no report for" in line]
    assert told.endswith("its process was killed; resuming from its checkpoint")
    assert summary.finished and "FAIL" not in {t.state for t in summary.trials}
    assert sorted(states(tmp_path / "tiny")) == sorted(t.state for t in summary.trials) and len(summary.trials) == 3
    assert not psutil.pid_exists(stopped[0])


@pytest.mark.slow
def test_failures_in_a_row_stop_the_search_with_the_common_reason(
    ray_running: None, space_file: Path, tiny_data: Path, tmp_path: Path
) -> None:
    text = space_file.read_text().replace("[space]", "[space]\n").replace("trials = 5", "trials = 8")
    text = text.replace("[base]", "[base]\nloss = { temperature = 1e-40 }")  # no float32 can divide by it
    space_file.write_text(text.replace("[search]", '[search]\nmax_failures_in_a_row = 3\nscheduler = "fifo"'))
    with pytest.raises(
        FailedError, match=r"3 trials in a row failed, 3 of them with this error: the loss is no longer finite"
    ):
        run_search(load_space(space_file), results=tmp_path, data=tiny_data)
    assert set(states(tmp_path / "tiny")) <= {"FAIL", "WAITING"} and 3 <= states(tmp_path / "tiny").count("FAIL") < 8
    with pytest.raises(FailedError):
        run_search(load_space(space_file), results=tmp_path, data=tiny_data, resume=True)
    assert states(tmp_path / "tiny").count("FAIL") >= 6
    assert len(load_summary(tmp_path / "tiny").trials) == states(tmp_path / "tiny").count("FAIL")


@pytest.fixture
def under_way(space_file: Path, tiny_data: Path, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A search by the command line, some steps into its first, long epoch."""
    space_file.write_text(space_file.read_text().replace("steps_per_epoch = 4", "steps_per_epoch = 3000"))
    process = subprocess.Popen(
        [sys.executable, "run.py", "--search", str(space_file), "--data", str(tiny_data), "--results", str(tmp_path)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    directory = tmp_path / "tiny"
    until(lambda: len(list(directory.glob("trials/*/events*session_start"))) >= 1)
    until(lambda: list(directory.glob("trials/*/config.json")))
    time.sleep(2)
    yield process
    process.kill()


@pytest.mark.slow
def test_ctrl_c_leaves_checkpoints_at_the_step_and_a_search_to_resume(
    under_way: subprocess.Popen[str], tmp_path: Path
) -> None:
    directory = tmp_path / "tiny"
    assert load_summary(directory).trials == ()  # a report may be asked for at any time
    under_way.send_signal(signal.SIGINT)
    output = under_way.communicate(timeout=120)[0]
    assert under_way.returncode == 130 and "with --resume continues" in output
    assert "Traceback" not in output
    assert set(states(directory)) == {"WAITING"}
    steps = [checkpoint.load(path)["progress"]["step"] for path in directory.glob("trials/*/checkpoint.pt")]
    assert steps and all(0 < step < 3000 for step in steps)


@pytest.mark.slow
def test_second_ctrl_c_ends_at_once_and_leaves_no_process(under_way: subprocess.Popen[str], tmp_path: Path) -> None:
    below = psutil.Process(under_way.pid).children(recursive=True)
    assert any("ray::" in " ".join(p.cmdline()) for p in below)
    for _ in range(2):
        under_way.send_signal(signal.SIGINT)
        time.sleep(0.3)
    output = under_way.communicate(timeout=60)[0]
    assert under_way.returncode == 130 and "Traceback" not in output
    psutil.wait_procs(below, timeout=30)
    assert not [p for p in below if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
    assert set(states(tmp_path / "tiny")) <= {"RUNNING", "WAITING"}  # it took no time to park what ran
    # A process that is killed while it writes leaves a hidden half, which its trial removes when it goes on.
    left = [path.name for path in (tmp_path / "tiny").glob("trials/*/*.partial")]
    assert all(re.fullmatch(r"\.\S+\.[0-9a-f]{8}\.partial", name) for name in left)
    for whole in (tmp_path / "tiny").glob("trials/*/checkpoint.pt"):
        assert checkpoint.load(whole)
