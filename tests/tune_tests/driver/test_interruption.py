"""A wish to end a search reaches its trials."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from tests.paths import ROOT
from tune.driver import interruption as module
from tune.driver.interruption import Interruption


def test_a_signal_is_passed_on_to_the_trials_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POLL_SECONDS", 0.0)
    monkeypatch.setattr(module.ray, "wait", lambda answers, **options: (answers, []))
    sent: list[str] = []

    def send() -> object:
        sent.append("stop")
        return object()

    wish = Interruption(SimpleNamespace(stop_all=SimpleNamespace(remote=send)))
    with wish.caught():
        assert wish.stop_all() is False and not sent
        os.kill(os.getpid(), signal.SIGTERM)
        assert wish.came and wish.reason is None
        assert [wish.stop_all(), wish.stop_all()] == [False, False]
    assert sent == ["stop", "stop"] and wish("trial", {}) is False


def test_a_search_that_stops_itself_keeps_the_reason() -> None:
    wish = Interruption(None)
    wish.stop("the disk is full")
    assert wish.came and wish.reason == "the disk is full"


def children(driver: psutil.Process, name: str) -> list[psutil.Process]:
    found = []
    with contextlib.suppress(psutil.Error):
        for process in driver.children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if name in " ".join(process.cmdline()):
                    found.append(process)
    return found


@pytest.mark.long
def test_the_first_ctrl_c_is_heard_though_the_actor_that_passes_it_on_has_just_died(
    space_file: Path, tiny_data: Path, tmp_path: Path
) -> None:
    space_file.write_text(space_file.read_text().replace("steps_per_epoch = 4", "steps_per_epoch = 200"))
    where = ["--search", str(space_file), "--data", str(tiny_data), "--results", str(tmp_path)]
    with subprocess.Popen(
        [sys.executable, "run.py", *where], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    ) as driver:  # fmt: skip
        deadline = time.monotonic() + 200
        while not list(tmp_path.glob("tiny/trials/*/metrics.jsonl")):
            assert time.monotonic() < deadline and driver.poll() is None
            time.sleep(0.1)
        (control,) = children(psutil.Process(driver.pid), "ray::Control")
        control.kill()
        driver.send_signal(signal.SIGINT)
        out, errors = driver.communicate(timeout=200)
    assert driver.returncode == 130 and "Traceback" not in out + errors, out + errors
    assert len(errors.splitlines()) == 1 and "--resume" in errors
    assert list(tmp_path.glob("tiny/trials/*/checkpoint.pt"))
