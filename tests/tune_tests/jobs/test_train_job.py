"""One job of Ray Train on a real Ray: its reservation has a name, and nothing is left of it, however it ends."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray
import ray.exceptions
import ray.train
import ray.util
from ray.train.v2._internal.exceptions import (
    WorkerGroupStartupTimeoutError,
    WorkerHealthCheckFailedError,
    WorkerHealthCheckTimeoutError,
)

from tune.jobs.control import open_control
from tune.jobs.train_job import TrainJob, died, found_no_room, froze


def until(condition: Callable[[], object], seconds: float = 240) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"nothing after {seconds} s"
        time.sleep(0.05)


def processes(role: str) -> list[psutil.Process]:
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error, IndexError):
            if process.status() != psutil.STATUS_ZOMBIE and process.cmdline()[0].startswith(f"ray::{role}"):
                found.append(process)
    return found


def gone(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def names() -> list[str]:
    return [g["name"] for g in ray.util.placement_group_table().values() if g["state"] != "REMOVED"]


def everything_is_free() -> bool:
    return not names() and ray.available_resources().get("CPU") == ray.cluster_resources()["CPU"]


def long_loop(job: dict[str, Any]) -> None:
    Path(job["begun"]).touch()
    time.sleep(600)


@pytest.fixture
def control(ray_running: None) -> Iterator[Any]:
    with open_control() as running:
        yield running


Start = Callable[[], TrainJob]


@pytest.fixture
def start(control: Any, tmp_path: Path) -> Start:
    """A job of two workers that train for ever."""

    def begin() -> TrainJob:
        begun = tmp_path / "begun"
        job = TrainJob(
            long_loop, {"begun": str(begun)}, workers=2, bundle={"CPU": 1.0}, training="voc/trials/003", name="003",
            number=5, control=control, scratch=tmp_path,
        )  # fmt: skip
        job.start()
        until(begun.exists)
        return job

    return begin


@pytest.mark.slow
@pytest.mark.parametrize("role", ["TrainController", "RayTrainWorker"])
def test_a_job_whose_process_is_killed_ends_and_holds_nothing(start: Start, role: str) -> None:
    job = start()
    (name,) = names()
    assert f"/voc/trials/003#{job.number}/" in name
    processes(role)[0].kill()
    job.join(120)
    assert not job.is_alive() and job.error is not None and not found_no_room(job.error)
    until(everything_is_free)
    until(lambda: not processes("RayTrainWorker") and not processes("PlacementGroupCleaner"))


@pytest.mark.slow
@pytest.mark.parametrize("role", ["TrainController", "RayTrainWorker"])
def test_a_job_whose_process_is_frozen_is_killed_with_all_it_holds(start: Start, role: str) -> None:
    job = start()
    frozen = processes(role)[0]
    frozen.suspend()
    job.kill(10)
    until(lambda: not job.is_alive())
    assert job.error is not None
    until(everything_is_free)
    until(lambda: gone(frozen))


@pytest.mark.slow
def test_a_job_whose_room_others_have_taken_ends_soon_and_says_so(control: Any, tmp_path: Path) -> None:
    job = TrainJob(
        long_loop, {"begun": str(tmp_path / "begun")}, workers=2, bundle={"CPU": ray.cluster_resources()["CPU"]},
        training="voc/trials/004", name="004", number=1, control=control, scratch=tmp_path,
    )  # fmt: skip
    job.start()
    job.join(120)
    assert job.error is not None and found_no_room(job.error)
    until(everything_is_free)


def test_a_job_that_finds_no_room_is_told_from_one_that_fails() -> None:
    assert found_no_room(ray.train.ControllerError(WorkerGroupStartupTimeoutError(2)))
    assert not found_no_room(ray.train.ControllerError(RuntimeError("it failed")))
    assert not found_no_room(ray.train.WorkerGroupError("", {0: WorkerGroupStartupTimeoutError(2)}))


def test_a_worker_that_died_is_told_from_one_that_froze() -> None:
    dead = ray.exceptions.ActorDiedError()
    assert died(dead) and died(WorkerHealthCheckFailedError("it failed", dead)) and not froze(dead)
    assert not died(WorkerHealthCheckFailedError("it failed", RuntimeError("no such object")))
    frozen = WorkerHealthCheckTimeoutError("it hangs")
    assert froze(frozen) and not died(frozen)
