"""Room for the workers of a training, on a real Ray whose cores others take and give back."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import ray
import ray.util
from ray.util.placement_group import PlacementGroup

from tune.jobs import waiting
from tune.jobs.control import ask, open_control
from tune.jobs.room import Room, worker_bundle
from tune.spaces.settings import Resources

TRAINING = "voc/trials/003"


def until(condition: Callable[[], object], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"nothing after {seconds} s"
        time.sleep(0.05)


def held() -> int:
    """The number of placement groups of the training."""
    groups = ray.util.placement_group_table().values()
    return sum(TRAINING in group["name"] and group["state"] != "REMOVED" for group in groups)


@pytest.fixture
def control(ray_running: None) -> Iterator[Any]:
    with open_control() as running:
        yield running


@pytest.fixture
def taken(ray_running: None) -> Iterator[PlacementGroup]:
    """All cores but half of one, which somebody else holds."""
    group = ray.util.placement_group([{"CPU": ray.cluster_resources()["CPU"] - 0.5}])
    assert group.wait(60)
    yield group
    ray.util.remove_placement_group(group)


def room(control: Any, lines: list[str], **resources: int) -> Room:
    return Room(Resources(**resources), TRAINING, control=control, name="003", waits=lines.append)


def test_a_worker_takes_its_share_of_a_gpu_if_it_has_one() -> None:
    assert worker_bundle(Resources(cpus=3)) == {"CPU": 3.0}
    assert worker_bundle(Resources(cpus=3, gpus=0.5)) == {"CPU": 3.0, "GPU": 0.5}


@pytest.mark.slow
def test_a_training_without_room_says_so_and_begins_when_there_is(
    control: Any, taken: PlacementGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "QUIET_SECONDS", 0.0)
    lines: list[str] = []
    found: list[int] = []
    searched = room(control, lines, workers=1)
    thread = threading.Thread(target=lambda: found.append(searched.find(1, stopped=lambda: False)), daemon=True)
    thread.start()
    until(lambda: lines)
    assert lines[0].startswith("waits for 1 worker since ") and "CPUs free" in lines[0]
    until(lambda: "003" in ask(control, "signs", 900.0) and ask(control, "signs", 900.0)["003"].waits == lines[0])
    ray.util.remove_placement_group(taken)
    thread.join(120)
    assert found == [1] and held() == 0 and len(lines) == 1


@pytest.mark.slow
def test_a_training_that_is_stopped_waits_no_longer_and_holds_nothing(control: Any, taken: PlacementGroup) -> None:
    asked = threading.Event()
    searched = room(control, [], workers=2, fewest=1)
    thread = threading.Thread(target=lambda: searched.find(1, stopped=asked.is_set), daemon=True)
    thread.start()
    until(lambda: held() == 1)  # no more than the fewest need is asked for yet
    asked.set()
    thread.join(120)
    assert not thread.is_alive() and held() == 0


@pytest.mark.slow
def test_a_group_that_is_too_small_hears_when_there_is_room_for_more(control: Any, taken: PlacementGroup) -> None:
    searched = room(control, [], workers=2, fewest=1)
    searched.ask_for_more(1)
    searched.ask_for_more(1)
    assert held() == 1 and searched.more() == 0
    ray.util.remove_placement_group(taken)
    until(lambda: searched.more() == 1)
    searched.give_back()
    assert held() == 0 and searched.more() == 0
