"""Loggers that misbehave in a process of their own."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from nmt.extensions import VARIABLE
from nmt.training.logger import Run
from nmt.training.loggers import separate
from nmt.training.loggers.separate import SeparateLogger

LOGGERS = """
import os, signal, sys, time
from nmt.training.logger import register_logger


@register_logger("written")
class Written:
    def __init__(self, run):
        print("noise"), print("noise", file=sys.stderr)
        self.path, self.asked = run.directory / "lines.txt", sys.stdin.readline()

    def scalars(self, values, epoch):
        with self.path.open("a") as file:
            print(epoch, values["loss"], repr(self.asked), file=file)

    def picture(self, name, image, epoch, caption):
        pass

    def close(self):
        with self.path.open("a") as file:
            print("closed", file=file)


@register_logger("killed")
class Killed(Written):
    def scalars(self, values, epoch):
        os.kill(os.getpid(), signal.SIGKILL)


@register_logger("hangs")
class Hangs(Written):
    def __init__(self, run):
        (run.directory / "pid").write_text(str(os.getpid()))
        time.sleep(1e6)


@register_logger("exits")
class Exits(Written):
    def __init__(self, run):
        sys.exit("not logged in")
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A training, and the loggers of a user's module."""
    (tmp_path / "their_loggers.py").write_text(LOGGERS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv(VARIABLE, "their_loggers")
    return Run(directory=tmp_path, root=tmp_path, config={})


def logged(name: str, run: Run, *, values: int = 3) -> list[str]:
    """Log some values; return what was reported."""
    told: list[str] = []
    logger = SeparateLogger(name, run, told.append)
    for epoch in range(values):
        logger.scalars({"loss": 0.5}, epoch)
    logger.close()
    return told


def test_all_is_written_before_the_training_ends_and_noise_goes_nowhere(
    run: Run, capfd: pytest.CaptureFixture[str]
) -> None:
    assert logged("written", run) == [] and capfd.readouterr() == ("", "")
    assert (run.directory / "lines.txt").read_text() == "0 0.5 ''\n1 0.5 ''\n2 0.5 ''\nclosed\n"


def test_a_logger_that_ends_its_process_is_one_line(run: Run) -> None:
    (killed,) = logged("killed", run)
    assert killed == "its process ended with -9"
    assert logged("exits", run) == ["not logged in"]
    (absent,) = logged("absent", run)
    assert absent.startswith("train.loggers: no logger 'absent'")


def test_a_logger_that_hangs_holds_nothing_up_and_is_killed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(separate, "CLOSE_SECONDS", 6.0)
    monkeypatch.setattr(separate, "AGAIN_SECONDS", 1.0)
    monkeypatch.setattr(separate, "_in_vain", set())
    told: list[str] = []
    logger = SeparateLogger("hangs", run, told.append)
    started = time.monotonic()
    for epoch in range(separate.MOST_QUEUED + 100):  # more than the pipe and the queue hold
        logger.scalars({"loss": "x" * 1000}, epoch)
    assert time.monotonic() - started < 5 and told == ["it is 500 values behind, so some are left out"]
    logger.close()
    assert logged("hangs", run) == ["it did not end within 1 s, so its last values may be missing"]
    with pytest.raises(ProcessLookupError):
        os.kill(int((run.directory / "pid").read_text()), 0)


def test_the_process_ends_with_a_training_that_dies(run: Run) -> None:
    logger = SeparateLogger("written", run, lambda reason: None)
    logger.scalars({"loss": 0.5}, 1)
    process = logger._process
    assert process is not None and process.stdin is not None
    deadline = time.monotonic() + 60
    while not (run.directory / "lines.txt").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.stdin.close()  # what the end of the training's process does
    assert process.wait(60) == 0
    assert (run.directory / "lines.txt").read_text().endswith("closed\n")
