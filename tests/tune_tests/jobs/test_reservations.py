"""Resources that a training holds, on a real Ray: found by name by whoever is left, and given back."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import ray
import ray.util

from tune.jobs.reservations import release, release_others, reserve, training_of


def until(condition: Callable[[], object], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"nothing after {seconds} s"
        time.sleep(0.05)


def names() -> set[str]:
    return {group["name"] for group in ray.util.placement_group_table().values() if group["state"] != "REMOVED"}


def all_free() -> bool:
    return ray.available_resources().get("CPU") == ray.cluster_resources()["CPU"]


class Dying:
    """A process that holds resources, and is killed."""

    def hold(self) -> int:
        assert reserve([{"CPU": 1.0}], "voc/trials/003", 7).wait(60)
        return os.getpid()


def test_a_training_is_called_by_the_end_of_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert training_of(Path("results/voc/trials/003")) == "voc/trials/003"
    assert training_of(Path("voc-train")) == f"{tmp_path.parent.name}/{tmp_path.name}/voc-train"


@pytest.mark.slow
def test_what_a_killed_process_holds_is_found_by_name_and_released(ray_running: None) -> None:
    dying = ray.remote(num_cpus=0)(Dying).remote()
    os.kill(ray.get(dying.hold.remote()), signal.SIGKILL)
    with pytest.raises(ray.exceptions.RayActorError):
        ray.get(dying.hold.remote())
    (name,) = names()  # of the same run: Ray itself keeps it
    job = ray.get_runtime_context().get_job_id()
    assert name.startswith(f"nmt/{job}/voc/trials/003#7/") and not all_free()
    assert release("voc/trials/00") == release("voc/trials/003", 70) == release("voc/trials/0031") == 0
    assert release("voc/trials/003") == 1 and release("voc/trials/003") == 0
    until(all_free)


@pytest.mark.slow
def test_only_what_belongs_to_no_running_training_is_released(ray_running: None) -> None:
    other = ray.util.placement_group([{"CPU": 0.1}], name="somebody else's")
    kept = reserve([{"CPU": 0.1}], "voc/trials/001", 1)
    for training, job in (("voc/trials/001", 2), ("voc/trials/0011", 1), ("willow/trials/001", 1)):
        reserve([{"CPU": 100.0}] * 2, training, job)  # waits for ever
    assert release_others(["voc/trials/001"]) == 2
    assert len(names()) == 3
    assert release("voc/trials/001", 2) == 1
    assert kept.wait(60) and other.wait(60)
    assert release_others([]) == 1 and names() == {"somebody else's"}
    ray.util.remove_placement_group(other)
    until(all_free)
