"""What a search takes on the disks, and what is refused before it starts."""

from __future__ import annotations

import dataclasses
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from ray.cluster_utils import Cluster

from nmt.data.store.ready import ready_data
from nmt.errors import UserError
from nmt.training.sizes import Sizes
from tests.tune_tests.spaces.edits import edited
from tune.driver import disk
from tune.driver.disk import DiskUse, disk_use, most_bytes
from tune.driver.search import preview_search, run_search
from tune.results.ended import Ended, write_ended
from tune.spaces.read import load_space
from tune.spaces.space import Space

SIZES = Sizes(checkpoint=300, best=100)


def space_with(space_file: Path, text: str) -> Space:
    return load_space(edited(space_file, "[search]\ntrials = 5", f"[search]\n{text}"))


@pytest.mark.parametrize(
    ("text", "most"),
    [
        # 1000 of each running trial; 700 of each that waits at rung 1 or 3 of 4; 100 of each that has ended
        ('trials = 9\nscheduler = "fifo"', 2 * 1000 + 7 * 100),
        ('trials = 9\nscheduler = "fifo"\nkeep = "all"', 2 * 1000 + 7 * 700),
        ("trials = 9", 2 * 1000 + 2 * 100 + 5 * 700),
        ('trials = 9\nkeep = "all"', 2 * 1000 + 7 * 700),
        ("trials = 2", 2 * 1000),
        ("trials = 1", 1000),
        ('trials = 9\nscheduler = "asha_stop"', 2 * 1000 + 7 * 100),
    ],
)
def test_the_most_that_trials_take_at_once(space_file: Path, text: str, most: int) -> None:
    space = space_with(space_file, text)
    assert most_bytes(space, SIZES, 2, space.search.trials) == most


def use_of(space: Space, tiny_data: Path, directory: Path, monkeypatch: pytest.MonkeyPatch, there: int) -> DiskUse:
    monkeypatch.setattr(disk, "room", lambda folder: there)
    monkeypatch.setattr(disk, "training_sizes", lambda config, features: SIZES)
    return disk_use(space, directory=directory, data=ready_data(tiny_data, [space.base]), storage=None, at_once=2)


@pytest.mark.parametrize(
    ("text", "there", "told"),
    [
        ("trials = 9", 5_699, "need up to 6 KB, and its disk has room for 6 KB; free space, write elsewhere with "
         "--results or try at most --trials 8"),
        ('trials = 9\nkeep = "all"', 3_500, '; [search] keep = "best", free space, write elsewhere with --results or '
         "try at most --trials 4"),
        ("trials = 9", 900, "; free space or write elsewhere with --results"),
        ("hours = 2", 1_999, ": the 2 trials that run at once need up to 2 KB"),
    ],
)  # fmt: skip
def test_what_cannot_fit_is_refused_with_what_would_be_right(
    space_file: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, there: int, told: str
) -> None:
    space = space_with(space_file, text)
    with pytest.raises(UserError) as error:
        use_of(space, tiny_data, tmp_path / "run", monkeypatch, there)
    assert told in str(error.value) and "\n" not in str(error.value)
    assert str(error.value).startswith(f"{tmp_path / 'run'}: ")


def test_a_search_that_has_begun_goes_on_while_its_running_trials_fit(
    space_file: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = space_with(space_file, "trials = 9")
    (tmp_path / "search.json").write_text("{}")
    assert use_of(space, tiny_data, tmp_path, monkeypatch, 2_000).most == 5_700
    with pytest.raises(UserError, match="the 2 trials that run at once need up to 2 KB.*; free space or write"):
        use_of(space, tiny_data, tmp_path, monkeypatch, 1_999)


def test_the_trials_that_have_ended_need_no_room_and_give_none(
    space_file: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = space_with(space_file, "trials = 3")
    (tmp_path / "search.json").write_text("{}")
    for number in ("000", "001"):
        write_ended(tmp_path / "trials" / number, Ended(state="COMPLETE", reason=None, history=[]))
        (tmp_path / "trials" / number / "best.pt").write_bytes(b"x" * 100)
    assert use_of(space, tiny_data, tmp_path, monkeypatch, 1_200).running == 1_000  # the third alone is left
    with pytest.raises(UserError, match="the trial that runs needs up to 1 KB, and its disk has room for 1 KB"):
        use_of(space, tiny_data, tmp_path, monkeypatch, 1_199)  # 200 of it are weights that stay


def test_the_plan_says_what_a_trial_and_the_search_take(
    space_file: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use = use_of(space_with(space_file, "trials = 9"), tiny_data, tmp_path, monkeypatch, 5_700)
    assert str(use) == (
        "a trial takes up to 1 KB while it trains, and 0 KB once ended; all trials at most 6 KB, at the end 1 KB; "
        "there is room for 6 KB"
    )
    assert use.to_dict() == {"trial": 1000, "ended_trial": 100, "most": 5700, "end": 900}
    space_file.write_text(space_file.read_text().replace("trials = 9", "hours = 2"))
    timed = use_of(load_space(space_file), tiny_data, tmp_path, monkeypatch, 200_000)
    assert str(timed).endswith("; there is room for 200 KB, enough for about 1,980 ended trials")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 300 KB: a trial of the tiny search takes more while it trains."""
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(place)], check=True)
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.slow
def test_every_node_is_asked_for_its_room(tmp_path: Path) -> None:
    # Before the tests that share a local Ray: a process has one Ray at a time.
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        cluster.add_node(num_cpus=2)
        ray.init(address=cluster.address, log_to_driver=False)
        found = {node["Resources"]["CPU"]: there for node, there in disk._rooms(tmp_path / "run")}
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert found.keys() == {1.0, 2.0} and found[1.0] == pytest.approx(found[2.0], rel=0.1)


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="a small disk is mounted by root")
@pytest.mark.parametrize("stored", ["", "object store", "folder"])
def test_a_search_that_cannot_fit_is_refused_by_the_preview_and_at_its_start(
    ray_running: None, request: pytest.FixtureRequest, space_file: Path, tiny_data: Path, small_disk: Path,
    tmp_path: Path, stored: str,
) -> None:  # fmt: skip
    """The disk is that of the results, that of the nodes' working folders, or that of the storage."""
    places = {
        "": (small_disk, None, rf"{small_disk}/tiny: the 5 trials of tiny need up to"),
        "object store": (small_disk, "s3", r"trials that run at once on node [\d.]+ need .* has room for"),
        "folder": (tmp_path / "results", str(small_disk), rf"{small_disk}/tiny: the 5 trials of tiny need up to"),
    }
    results, storage, told = places[stored]
    if storage == "s3":
        storage = f"{request.getfixturevalue('bucket')}/results"
    space = load_space(space_file)
    for run in (preview_search, run_search):
        with pytest.raises(UserError, match=told):
            run(space, results=results, data=tiny_data, storage=storage)
        assert not (results / "tiny").exists() and not list(small_disk.iterdir())


@pytest.mark.slow
def test_the_preview_prints_the_disk_space(
    ray_running: None, space_file: Path, tiny_data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    space = dataclasses.replace(load_space(space_file))
    with caplog.at_level("INFO"):
        plan = preview_search(space, results=tmp_path / "results", data=tiny_data)
    assert f"  disk      {plan.disk}" in caplog.text and plan.to_dict()["bytes"] == plan.disk.to_dict()
