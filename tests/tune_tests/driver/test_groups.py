"""What a search hears of its jobs: those that wait for resources, and those whose workers live. On a real Ray."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import ray
import ray.util

from tune.driver import groups as module
from tune.driver.groups import Groups
from tune.driver.watchdog import Watchdog
from tune.jobs import waiting
from tune.jobs.control import ask, open_control
from tune.jobs.reservations import reserve, training_of
from tune.spaces.read import load_space
from tune.spaces.settings import Resources


def gone(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.fixture
def control(ray_running: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setattr(module, "POLL_SECONDS", 0.0)
    monkeypatch.setattr(waiting, "LOOK_SECONDS", 0.0)
    with open_control() as running:
        yield running


def trial(number: int, status: str) -> Any:
    return SimpleNamespace(trial_id=str(number), config={"number": number}, status=status)


class Seen:
    """The callback with its watchdog, and the lines that it prints."""

    def __init__(self, control: Any, space_file: Path, directory: Path) -> None:
        self.lines: list[tuple[int, str]] = []
        self.health = Watchdog(load_space(space_file).search, stop=pytest.fail)
        self.groups = Groups(
            Resources(workers=2), directory, control=control, health=self.health,
            note=lambda number, line: self.lines.append((number, line)),
        )  # fmt: skip

    def follow(self, trials: list[Any], until: Callable[[], object]) -> None:
        deadline = time.monotonic() + 120
        while not until():
            assert time.monotonic() < deadline, "nothing after 120 s"
            self.groups.on_step_end(0, trials)
            time.sleep(0.05)


@pytest.fixture
def seen(control: Any, space_file: Path, tmp_path: Path) -> Seen:
    return Seen(control, space_file, tmp_path / "voc")


@pytest.mark.slow
def test_a_group_that_waits_has_no_limit_and_is_told_of_once(control: Any, seen: Seen) -> None:
    silence = seen.health._silence(3)
    silence.begin(time.monotonic() - 100_000)
    assert silence.reason(time.monotonic())
    ask(control, "waits", "003", "waits for 2 workers since 14:05 (the cluster has 1 of 2 CPUs free)")
    seen.follow([trial(3, "RUNNING"), trial(4, "TERMINATED")], lambda: silence.reason(time.monotonic()) is None)
    end = time.monotonic() + 1
    seen.follow([trial(3, "RUNNING")], lambda: time.monotonic() > end)
    assert seen.lines == [(3, "waits for 2 workers since 14:05 (the cluster has 1 of 2 CPUs free)")]
    assert ask(control, "next", "003", 1, 0, True).first_seconds == 7200  # nothing has been measured


@pytest.mark.slow
def test_a_job_without_a_process_is_told_of_and_has_no_clock(seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "QUIET_SECONDS", 0.5)
    seen.follow([trial(5, "PENDING")], lambda: seen.lines)
    ((number, line),) = seen.lines
    assert number == 5 and line.startswith("waits for 1 worker since ") and "CPUs free" in line
    seen.health.on_step_end(0, [trial(5, "PENDING")])
    assert not seen.health.hung and not seen.health._trials


@pytest.mark.slow
def test_resources_of_a_training_without_a_job_are_released(seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEEP_SECONDS", 1.0)
    held = [
        reserve([{"CPU": 0.1}], training_of(seen.groups._directory / "trials" / number), 1) for number in ("001", "002")
    ]
    assert all(group.wait(60) for group in held)

    def states() -> list[str]:
        table = ray.util.placement_group_table()
        return [table[group.id.hex()]["state"] for group in held]

    seen.follow([trial(1, "RUNNING"), trial(2, "TERMINATED")], lambda: states() == ["CREATED", "REMOVED"])
    seen.follow([trial(1, "TERMINATED")], lambda: states() == ["REMOVED", "REMOVED"])


@pytest.mark.slow
def test_a_control_that_does_not_answer_is_replaced(control: Any, seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FORGET_SECONDS", 2.0)
    assert ask(control, "stopping") is False
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error, IndexError):
            if process.cmdline()[0].startswith("ray::Control"):
                found.append(process)
    (frozen,) = found
    frozen.suspend()
    seen.follow([], lambda: gone(frozen))
    assert ask(control, "stopping") is False
