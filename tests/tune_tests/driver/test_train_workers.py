"""One training by a group of workers, by the real command on real Ray nodes, against one worker alone."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray
import ray.train
import ray.util
import torch

from nmt.config import from_dict, to_dict
from nmt.errors import UserError
from nmt.io.files import write_json
from nmt.training.history import read_metrics
from nmt.training.loop import train
from nmt.training.trainer import DivergedError
from tests.paths import ROOT
from tune.driver.train_workers import spread
from tune.jobs.worker_group import LOSSES_IN_A_ROW, WorkerGroup
from tune.spaces.read import load_space
from tune.spaces.settings import Resources, parse_workers


@pytest.mark.parametrize(("text", "fewest", "most"), [("4", 4, 4), ("1", 1, 1), ("2:8", 2, 8)])
def test_workers_are_asked_for_by_number_or_range(text: str, fewest: int, most: int) -> None:
    resources = parse_workers(text)
    assert (resources.fewest, resources.workers) == (fewest, most)


@pytest.mark.parametrize("text", ["0", "many", "3:2", "1:2:3", "-1", "", "2:"])
def test_wrong_numbers_of_workers_are_one_line(text: str) -> None:
    with pytest.raises(UserError, match=f"--workers {text}: ") as caught:
        parse_workers(text)
    assert "\n" not in str(caught.value)


def test_workers_share_the_cores_and_have_a_gpu_each_where_there_are_any() -> None:
    cpus, gpus = [{"CPU": 8.0}, {"CPU": 4.0}], [{"CPU": 16.0, "GPU": 4.0}, {"CPU": 8.0}]
    assert spread(parse_workers("3"), cpus) == Resources(cpus=4, workers=3)
    assert spread(parse_workers("2:4"), gpus) == Resources(cpus=4, gpus=1.0, workers=4, fewest=2)
    assert spread(parse_workers("4:9"), gpus) == Resources(cpus=4, gpus=1.0, workers=9, fewest=4)
    with pytest.raises(
        UserError, match="5 workers of at least a CPU and a GPU each do not fit: there are 16 CPUs, 4 GP"
    ):
        spread(parse_workers("5"), gpus)


def group(tmp_path: Path, lines: list[str], pairs: int = 8) -> WorkerGroup:
    config = from_dict({"data.pairs_per_step": pairs}, source="test")
    return WorkerGroup(
        config, directory=tmp_path, data="data", arguments={}, resources=Resources(workers=2), control=None,
        storage=None, scratch=tmp_path, note=lines.append,
    )  # fmt: skip


def failed(*errors: Exception) -> ray.train.WorkerGroupError:
    return ray.train.WorkerGroupError("", dict(enumerate(errors)))


def test_group_out_of_memory_halves_once_and_then_says_what_to_set(tmp_path: Path) -> None:
    lines: list[str] = []
    tried = group(tmp_path, lines)
    tried._workers = 2
    tried._recover(failed(torch.OutOfMemoryError("CUDA out of memory")))
    assert lines == ["out of memory; resuming from its checkpoint with 2 pairs at a time"]
    with pytest.raises(UserError, match="again, with 2 pairs per forward pass: set train.micro_batch to 1 or less"):
        tried._recover(failed(torch.OutOfMemoryError("CUDA out of memory")))


def test_group_gives_up_on_what_would_repeat_at_once_and_on_losses_after_some(tmp_path: Path) -> None:
    lines: list[str] = []
    tried = group(tmp_path, lines)
    with pytest.raises(DivergedError, match="no longer finite"):
        tried._recover(failed(RuntimeError("connection closed"), DivergedError("the loss is no longer finite")))
    for _ in range(LOSSES_IN_A_ROW - 1):
        tried._recover(failed(RuntimeError("[/gloo/pair.cc:561] Connection closed by peer. Check the logs")))
    assert lines == ["a worker was lost (Connection closed by peer); resuming from its checkpoint"] * (
        LOSSES_IN_A_ROW - 1
    )
    with pytest.raises(ray.train.WorkerGroupError):
        tried._recover(failed(RuntimeError("Connection closed by peer")))


@pytest.fixture
def recipe(space_file: Path) -> Path:
    """A training of sixteen short epochs."""
    base = load_space(space_file, {"train.epochs": 16, "train.steps_per_epoch": 6, "optim.milestones": [3]}).base
    write_json(space_file.with_name("tiny.json"), to_dict(base))
    return space_file.with_name("tiny.json")


@contextlib.contextmanager
def command(recipe: Path, data: Path, results: Path, *more: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """`run.py --train` as a process of its own."""
    arguments = ["--train", str(recipe), "--data", str(data), "--results", str(results), *more]
    process = subprocess.Popen(
        [sys.executable, "run.py", *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        for child in psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []:
            with contextlib.suppress(psutil.Error):
                child.kill()
        process.kill()


def wait_until(condition: Callable[[], Any], process: subprocess.Popen[str], seconds: float = 300) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert process.poll() is None, f"ended: {process.communicate()[0]}"
        assert time.monotonic() < deadline, f"nothing after {seconds} s"
        time.sleep(0.02)
    return found


def assert_same_training(one: Path, other: Path) -> None:
    parameters = [torch.load(d / "checkpoint.pt", weights_only=True)["model"] for d in (one, other)]
    assert max(float((parameters[0][n] - parameters[1][n]).abs().max()) for n in parameters[0]) < 1e-5
    for before, after in zip(read_metrics(one), read_metrics(other), strict=True):
        assert after["train/loss"] == pytest.approx(before["train/loss"], abs=1e-5)
        assert after["val/accuracy"] == pytest.approx(before["val/accuracy"], abs=1e-9)


def train_workers(parent: int, role: str = "RayTrainWorker") -> list[psutil.Process]:
    """The training's workers among the descendants of a process, or others that Ray calls so."""
    found = []
    for child in psutil.Process(parent).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if f"ray::{role}" in " ".join(child.cmdline()):
                found.append(child)
    return found


def reserved() -> set[str]:
    """The states of the cluster's placement groups."""
    return {group["state"] for group in ray.util.placement_group_table().values()}


@pytest.mark.slow
def test_group_shrinks_when_a_node_goes_grows_when_one_comes_and_trains_as_one(
    recipe: Path, tiny_data: Path, tmp_path: Path
) -> None:
    from ray.cluster_utils import Cluster

    config = from_dict(json.loads(recipe.read_text()), source="test")
    train(config, data=tiny_data, directory=tmp_path / "alone")
    run = tmp_path / f"{tmp_path.name}-tiny"
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        other = cluster.add_node(num_cpus=1)
        ray.init(address=cluster.address, log_to_driver=False)
        with command(recipe, tiny_data, tmp_path, "--workers", "1:2", RAY_ADDRESS=cluster.address) as process:
            wait_until(lambda: len(read_metrics(run)) >= 2, process)
            raylet = other.all_processes["raylet"][0].process
            (worker,) = train_workers(raylet.pid)
            worker.suspend()  # somewhere in the third epoch, or later on a fast machine
            worker.kill()
            cluster.remove_node(other, allow_graceful=False)
            wait_until(lambda: len(json.loads((run / "hosts.json").read_text())) == 2, process)
            (survivor,) = train_workers(cluster.head_node.all_processes["raylet"][0].process.pid)
            wait_until(lambda: "PENDING" in reserved(), process)  # it asks for more
            survivor.suspend()  # until there is another node to grow to
            cluster.add_node(num_cpus=1)
            wait_until(lambda: "PENDING" not in reserved(), process)
            survivor.resume()
            said, _ = process.communicate(timeout=300)
        assert process.returncode == 0, said
    finally:
        ray.shutdown()
        cluster.shutdown()
    workers = [metrics["workers"] for metrics in read_metrics(run)]
    assert workers[:2] == [2, 2] and workers[-1] == 2 and 1 in workers, said
    assert "resuming with 1 instead of 2 workers" in said and "room for 1 more workers" in said
    assert [len(entry["workers"]) for entry in json.loads((run / "hosts.json").read_text())] == [2, 1, 2]
    assert_same_training(tmp_path / "alone", run)
    assert {p.name for p in run.iterdir() if "tfevents" not in p.name} == {
        "config.json", "data_set.json", "checkpoint.pt", "checkpoint.previous.pt", "best.pt", "metrics.jsonl",
        "hosts.json",
    }  # fmt: skip


@pytest.mark.long
def test_group_whose_processes_are_killed_and_frozen_trains_as_one(
    space_file: Path, tiny_data: Path, tmp_path: Path
) -> None:
    config = load_space(space_file, {"train.epochs": 8, "train.steps_per_epoch": 60}).base
    recipe, run = space_file.with_name("tiny.json"), tmp_path / f"{tmp_path.name}-tiny"
    write_json(recipe, to_dict(config))
    train(config, data=tiny_data, directory=tmp_path / "alone")
    faults = [
        (0, "TrainController", signal.SIGKILL),  # while its workers start
        (1, "Control", signal.SIGKILL),
        (3, "RayTrainWorker", signal.SIGSTOP),
        (5, "TrainController", signal.SIGKILL),
    ]
    with command(recipe, tiny_data, tmp_path, "--workers", "2") as process:
        for epochs, role, kill in faults:
            wait_until(lambda epochs=epochs: len(read_metrics(run)) >= epochs, process)  # type: ignore[misc]
            found = wait_until(lambda role=role: train_workers(process.pid, role), process)  # type: ignore[misc]
            found[0].send_signal(kill)
        said, _ = process.communicate(timeout=400)
    assert process.returncode == 0, said
    assert said.count("resuming from its checkpoint") == 3 and "its process is frozen" in said, said
    assert_same_training(tmp_path / "alone", run)
    assert [line.split()[1] for line in said.splitlines() if line.startswith("epoch ")] == [
        str(n + 1) for n in range(8)
    ]


@pytest.mark.long
def test_group_interrupted_in_mid_epoch_is_resumed_by_one_worker(recipe: Path, tiny_data: Path, tmp_path: Path) -> None:
    config = from_dict(json.loads(recipe.read_text()), source="test")
    train(config, data=tiny_data, directory=tmp_path / "alone")
    run = tmp_path / f"{tmp_path.name}-tiny"
    with command(recipe, tiny_data, tmp_path, "--workers", "2") as process:
        wait_until(lambda: len(read_metrics(run)) >= 2, process)
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=300)
    assert process.returncode == 130 and "The same command with --resume continues." in said
    done = len(read_metrics(run))
    assert 2 <= done < 16 and "epoch 2 of 16" in said
    train(config, data=tiny_data, directory=run, resume=True)
    assert [m["workers"] for m in read_metrics(run)] == [2] * done + [1] * (16 - done)
    assert_same_training(tmp_path / "alone", run)


def test_more_workers_than_there_is_room_for_are_refused(recipe: Path, tiny_data: Path, tmp_path: Path) -> None:
    with command(recipe, tiny_data, tmp_path, "--workers", "9") as process:
        said, _ = process.communicate(timeout=300)
    assert process.returncode == 2 and said.splitlines() == [
        "run.py: --workers 9: more than data.pairs_per_step = 4, so that a worker would have no pair"
    ]
