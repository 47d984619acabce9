"""Searches in which everything that may die is killed, at moments that a seed chooses, by SIGKILL."""

from __future__ import annotations

import collections
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import optuna
import psutil
import pytest
import ray
import ray.util
from ray.cluster_utils import Cluster
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from nmt.training.history import read_metrics
from tests.paths import ROOT
from tune.results.summary import load_summary

EPOCHS, TRIALS = 5, 4
TRIAL, TRIAL_OF_WORKERS = "ImplicitFunc", "ResourceTrainable"
"""what Ray calls the process of a trial, and that around the workers of a trial, while they train"""
ROLES = (TRIAL, TRIAL_OF_WORKERS, "WorkersTrial", "RayTrainWorker", "TrainController", "Control")
"""beginnings of the titles of all processes of a search; a WorkersTrial is a ResourceTrainable that idles"""


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A head without cores for trials, and two nodes of one."""
    running = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    for _ in range(2):
        running.add_node(num_cpus=1)
    yield running
    running.shutdown()


class Search:
    """A search as its user runs it, and what can be killed of it."""

    def __init__(self, space: Path, data: Path, results: Path, cluster: Cluster) -> None:
        self.directory, self._cluster = results / "tiny", cluster
        self._command = [sys.executable, "run.py", "--search", str(space), "--data", str(data), "--results"]
        self._command += [str(results)]
        self.log = results.with_suffix(".log")
        self.start()

    def start(self, *more: str) -> None:
        with self.log.open("a") as log:
            self._driver = subprocess.Popen(
                [*self._command, *more], cwd=ROOT, env=os.environ | {"RAY_ADDRESS": self._cluster.address},
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def epochs(self) -> int:
        """Completed, of all trials."""
        return sum(len(read_metrics(folder)) for folder in self.directory.glob("trials/*"))

    def wait_for(self, epochs: int) -> None:
        until(lambda: self.epochs() >= epochs or self._driver.poll() is not None, what=self.log)
        assert self._driver.poll() is None, self.log.read_text()

    def kill_process(self, role: str, by: signal.Signals = signal.SIGKILL) -> None:
        """One that is there: of a trial, of a worker, or of what keeps them together."""
        found: list[psutil.Process] = []

        def find() -> bool:
            found[:] = processes(role)
            return bool(found)

        until(find, what=self.log)
        found[0].send_signal(by)

    def kill_node(self) -> None:
        """The raylet of a worker node, with which all of the node ends; another node comes in its place."""
        node = next(n for n in self._cluster.worker_nodes if n.all_processes.get("raylet"))
        os.kill(node.all_processes["raylet"][0].process.pid, signal.SIGKILL)
        self._cluster.worker_nodes.discard(node)
        self._cluster.add_node(num_cpus=1, wait=False)

    def kill_driver(self) -> None:
        self._driver.kill()
        self._driver.wait()
        self.start("--resume")

    def finish(self) -> None:
        assert self._driver.wait(timeout=600) == 0, self.log.read_text()


def until(condition: Callable[[], object], *, what: Path, seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what.read_text()
        time.sleep(0.05)


def processes(role: str) -> list[psutil.Process]:
    """Ray's, of this test alone."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if process.status() != psutil.STATUS_ZOMBIE and f"ray::{role}" in process.cmdline()[0]:
                found.append(process)
        except (psutil.Error, IndexError):
            continue
    return found


def trained(directory: Path) -> collections.Counter[tuple[str, int]]:
    """How often each epoch of each trial was trained to its end, as its processes logged it to TensorBoard."""
    counts: collections.Counter[tuple[str, int]] = collections.Counter()
    for path in sorted(directory.glob("trials/*/events.out.tfevents.*")):
        for event in EventFileLoader(str(path)).Load():
            if any(value.tag == "while_training/loss" for value in event.summary.value):
                counts[path.parent.name, event.step] += 1
    return counts


def check_and_tell(search: Search, faults: list[str], capsys: pytest.CaptureFixture[str], trials: int) -> None:
    """What must hold after it all. Prints for each fault: times, epochs trained twice, trials that ended well."""
    directory = search.directory
    summary = load_summary(directory)
    study = optuna.load_study(study_name="tiny", storage=f"sqlite:///{directory / 'study.db'}")
    assert {f"{t.number:03d}": t.state.name for t in study.trials} == {t.id: t.state for t in summary.trials}
    assert [t.state for t in summary.trials] == ["COMPLETE"] * trials, search.log.read_text()
    counts = trained(directory)
    assert max(counts.values()) == 1  # a completed epoch has its checkpoint: none is trained again
    for record in summary.trials:
        history = read_metrics(directory / "trials" / record.id)
        assert [m["epoch"] for m in history] == list(range(1, EPOCHS + 1))
        assert study.trials[int(record.id)].intermediate_values == {m["epoch"]: m["val/accuracy"] for m in history}
    until(lambda: not any(processes(role) for role in ROLES), what=search.log)
    # What Ray keeps for itself in ray/ is made anew with each run.
    hidden = [p for p in directory.rglob(".*") if p.is_file() and directory / "ray" not in p.parents]
    assert [p.name for p in hidden] == [".lock"]
    with capsys.disabled():
        for fault, times in collections.Counter(faults).items():
            again = sum(counts.values()) - len(counts)
            print(f"\n| {fault} | {times} | {again} of {len(counts)} | {len(summary.trials)} of {trials} |", end="")


def written(space_file: Path, **changes: str) -> Path:
    text = space_file.read_text()
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    space_file.write_text(text)
    return space_file


@pytest.mark.slow
def test_a_search_whose_processes_node_and_driver_are_killed_loses_no_completed_epoch(
    cluster: Cluster, space_file: Path, tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    space = written(space_file, **{
        "trials = 5": f'trials = {TRIALS}\nscheduler = "fifo"\nsampler = "random"',
        "epochs = 4, steps_per_epoch = 4": f"epochs = {EPOCHS}, steps_per_epoch = 150",
    })  # fmt: skip
    search, chance = Search(space, tiny_data, tmp_path / "results", cluster), random.Random(0)
    faults: list[str] = []
    kill: dict[str, Callable[[], None]] = {
        "trial process": lambda: search.kill_process(TRIAL),
        "worker node's raylet": search.kill_node,
        "driver": search.kill_driver,
    }
    plan = ["trial process", "worker node's raylet", "driver", "trial process", "driver"]
    for number, fault in enumerate(plan):
        search.wait_for(1 + 3 * number + chance.randrange(2))
        time.sleep(chance.uniform(0, 1))
        kill[fault]()
        faults.append(fault)
    search.finish()
    check_and_tell(search, faults, capsys, TRIALS)


def searched_by_two(
    cluster: Cluster, space_file: Path, data: Path, results: Path, *, trials: int, steps: int = 60
) -> Search:
    """A search whose trials each take both nodes."""
    space = written(space_file, **{
        "trials = 5": f'trials = {trials}\nscheduler = "fifo"\nsampler = "random"\n[resources]\nworkers = 2',
        "epochs = 4, steps_per_epoch = 4": f"epochs = {EPOCHS}, steps_per_epoch = {steps}",
    })  # fmt: skip
    return Search(space, data, results, cluster)


def check_nothing_is_held(cluster: Cluster) -> None:
    """All cores are free, and no placement group is left."""
    ray.init(address=cluster.address, log_to_driver=False)
    try:
        until(lambda: ray.available_resources().get("CPU") == ray.cluster_resources()["CPU"], what=Path(os.devnull))
        assert {group["state"] for group in ray.util.placement_group_table().values()} <= {"REMOVED"}
    finally:
        ray.shutdown()


KILLED = {
    "two": [(1, "TrainController", signal.SIGKILL), (3, "RayTrainWorker", signal.SIGKILL)],
    "all": [
        (1, "TrainController", signal.SIGKILL),
        (3, "Control", signal.SIGKILL),
        (5, TRIAL_OF_WORKERS, signal.SIGKILL),
        (7, "RayTrainWorker", signal.SIGSTOP),
        (9, "RayTrainWorker", signal.SIGKILL),
    ],
    "at the start": [
        (0, TRIAL_OF_WORKERS, signal.SIGKILL),
        (0, "TrainController", signal.SIGKILL),
        (0, "TrainController", signal.SIGKILL),  # while it recovers
        (0, "Control", signal.SIGKILL),
        (1, "Control", signal.SIGKILL),
        (1, "Control", signal.SIGKILL),
        (5, "TrainController", signal.SIGKILL),  # of the next trial
    ],
}
"""completed epochs before each fault, whose process, the fault"""


@pytest.mark.parametrize(
    "plan",
    [
        pytest.param("two", marks=pytest.mark.long),
        pytest.param("all", marks=pytest.mark.long),
        pytest.param("at the start", marks=pytest.mark.long),
    ],
)
@pytest.mark.slow
def test_a_search_of_two_workers_whose_processes_are_killed_or_frozen_loses_no_completed_epoch(
    cluster: Cluster, space_file: Path, tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], plan: str
) -> None:
    trials = 1 if plan == "two" else 2
    search = searched_by_two(cluster, space_file, tiny_data, tmp_path / "results", trials=trials)
    chance = random.Random(1)
    for epochs, role, fault in KILLED[plan]:
        search.wait_for(epochs)
        time.sleep(chance.uniform(0, 1))
        search.kill_process(role, fault)
    search.finish()
    check_and_tell(search, [f"{role} ({fault.name})" for _, role, fault in KILLED[plan]], capsys, trials)
    check_nothing_is_held(cluster)


@pytest.mark.long
def test_a_search_that_waits_for_a_node_says_so_and_survives_the_death_of_its_processes(
    cluster: Cluster, space_file: Path, tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ray.init(address=cluster.address, log_to_driver=False)
    taken = ray.util.placement_group([{"CPU": 1.0}])
    assert taken.wait(60)
    search = searched_by_two(cluster, space_file, tiny_data, tmp_path / "results", trials=1)
    try:
        until(lambda: "000  waits for 2 workers since " in search.log.read_text(), what=search.log)
        assert "(the cluster has 1 of 2 CPUs free)" in search.log.read_text()
        for role in ("Control", TRIAL_OF_WORKERS):
            search.kill_process(role)
            time.sleep(5)
        assert search.epochs() == 0
    finally:
        ray.util.remove_placement_group(taken)
        ray.shutdown()
    search.finish()
    check_and_tell(search, ["Control, and the trial, while it waits"], capsys, 1)
    check_nothing_is_held(cluster)
