"""Nodes that are taken away after a notice, on real Ray: what trained there goes on elsewhere, at the very step."""

from __future__ import annotations

import contextlib
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
import ray
import ray.util.scheduling_strategies
from ray.cluster_utils import Cluster
from ray.core.generated import autoscaler_pb2

from nmt.config import load_config
from nmt.training.files import HOSTS
from nmt.training.history import read_metrics
from nmt.training.loop import train
from tests.metadata import Metadata, metadata_server
from tests.nmt_tests.toy_training import comparable
from tune.driver.search import run_search
from tune.driver.train_workers import train_together
from tune.evidence.repeated import Repetition, Variant, in_ray
from tune.jobs.causes import cause_of
from tune.jobs.spot import NodeTakenError, node_watch
from tune.spaces.read import load_space
from tune.spaces.settings import Resources

STEPS = 900


@pytest.fixture
def metadata() -> Iterator[Metadata]:
    with metadata_server() as running:
        yield running


@pytest.fixture
def cluster(metadata: Metadata, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A head without cores for trials, a spot node, and a node that stays."""
    running = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    running.spot = running.add_node(num_cpus=1, env_vars=metadata.environment("aws"))
    running.add_node(num_cpus=1)
    monkeypatch.setenv("RAY_ADDRESS", running.address)
    yield running
    running.shutdown()


def wait_for(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


@contextlib.contextmanager
def meanwhile(work: Callable[[], None]) -> Iterator[None]:
    """Do the work in a thread; what it raises fails the test."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    yield
    thread.join(60)
    assert not thread.is_alive() and not errors, errors


def drain(cluster: Cluster) -> None:
    """As `ray start --block` does when Kubernetes ends its pod."""
    client = ray._private.worker.global_worker.gcs_client
    reason = autoscaler_pb2.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
    accepted, _ = client.drain_node(cluster.spot.node_id, reason, "SIGTERM", int(time.time() + 100) * 1000)
    assert accepted


def is_gone(cluster: Cluster) -> bool:
    return not any(node["Alive"] for node in ray.nodes() if node["NodeID"] == cluster.spot.node_id)


def written(space_file: Path, **changes: str) -> Path:
    text = space_file.read_text()
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    space_file.write_text(text)
    return space_file


def lines(directory: Path) -> str:
    return (directory / "search.log").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("told", ["by the cloud", pytest.param("by Ray", marks=pytest.mark.long)])
def test_trials_of_a_node_that_is_taken_away_go_on_elsewhere_at_their_step(
    cluster: Cluster, metadata: Metadata, space_file: Path, tiny_data: Path, tmp_path: Path, told: str
) -> None:
    space = load_space(written(space_file, **{
        "trials = 5": 'trials = 2\nscheduler = "fifo"\nsampler = "random"',
        "epochs = 4, steps_per_epoch = 4": f"epochs = 4, steps_per_epoch = {STEPS}",
    }))  # fmt: skip
    directory = tmp_path / "tiny"

    def take_away() -> None:
        folders = [directory / "trials" / name for name in ("000", "001")]
        wait_for(lambda: metadata.asked and all(read_metrics(folder) for folder in folders), "both train")
        metadata.give_notice() if told == "by the cloud" else drain(cluster)
        wait_for(lambda: "is taken away" in lines(directory), "the notice is acted on")
        wait_for(lambda: is_gone(cluster), "Ray takes the node off once its trial has left")

    with meanwhile(take_away):
        summary = run_search(space, results=tmp_path, data=tiny_data)
    assert [trial.state for trial in summary.trials] == ["COMPLETE"] * 2
    (line,) = [line for line in lines(directory).splitlines() if "is taken away" in line]
    reason = "spot notice of AWS: terminate at 2026-11-28T20:30:00Z" if told == "by the cloud" else "Ray drains it"
    assert f"({reason}); resuming from its checkpoint" in line
    study = optuna.load_study(study_name="tiny", storage=f"sqlite:///{directory / 'study.db'}")
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 2
    for trial in ("000", "001"):  # a step left out or trained twice would show in the loss
        folder, alone = directory / "trials" / trial, tmp_path / "alone" / trial
        train(load_config(folder / "config.json"), data=tiny_data, directory=alone, decode_grid=space.decode_grid())
        assert [comparable(m) for m in read_metrics(folder)] == [comparable(m) for m in read_metrics(alone)]


@pytest.mark.long
def test_a_pack_of_trials_goes_on_elsewhere_together(
    cluster: Cluster, metadata: Metadata, space_file: Path, tiny_data: Path, tmp_path: Path
) -> None:
    space = load_space(written(space_file, **{
        "trials = 5": 'trials = 4\nscheduler = "fifo"\nsampler = "random"\n[resources]\npacked = 2',
        "epochs = 4, steps_per_epoch = 4": f"epochs = 4, steps_per_epoch = {STEPS // 2}",
    }))  # fmt: skip
    directory = tmp_path / "tiny"

    def take_away() -> None:
        folders = [directory / "trials" / f"00{k}" for k in range(4)]
        wait_for(lambda: metadata.asked and all(read_metrics(folder) for folder in folders), "all train")
        metadata.give_notice()

    with meanwhile(take_away):
        summary = run_search(space, results=tmp_path, data=tiny_data)
    assert [trial.state for trial in summary.trials] == ["COMPLETE"] * 4
    assert len([line for line in lines(directory).splitlines() if "is taken away" in line]) == 2


@pytest.mark.slow
def test_a_group_of_workers_saves_and_goes_on_without_the_node(
    cluster: Cluster, metadata: Metadata, space_file: Path, tiny_data: Path, tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    keys = {"train.epochs": 4, "train.steps_per_epoch": STEPS, "optim.milestones": [2]}
    config, directory = load_space(space_file, keys).base, tmp_path / "tiny-train"
    caplog.set_level(logging.INFO)

    def take_away() -> None:
        wait_for(lambda: metadata.asked and read_metrics(directory), "it trains")
        metadata.give_notice()

    with meanwhile(take_away):
        train_together(config, workers="1:2", data=tiny_data, directory=directory)
    hosts = json.loads((directory / HOSTS).read_text())
    assert [len(part["workers"]) for part in hosts] == [2, 1]
    assert hosts[1]["epoch"] > 1 and 0 < hosts[1]["step"] < STEPS  # at its step, not at the last epoch
    assert [m["epoch"] for m in read_metrics(directory)] == [1, 2, 3, 4]
    text = "\n".join(record.getMessage() for record in caplog.records)
    assert "a worker is lost: its node" in text and "resuming with 1 instead of 2 workers" in text


@pytest.mark.long
def test_a_repeated_training_goes_on_elsewhere(
    cluster: Cluster, metadata: Metadata, space_file: Path, tiny_data: Path, tmp_path: Path
) -> None:
    keys = {"train.epochs": 4, "train.steps_per_epoch": STEPS, "optim.milestones": [2]}
    variant = Variant(name="base", slug="base", config=load_space(space_file, keys).base)
    repetition = Repetition(directory=tmp_path / "repeated", data=tiny_data, decode_grid=(), resources=Resources())
    folders = [repetition.run_directory(variant, seed) for seed in (0, 1)]

    def take_away() -> None:
        wait_for(lambda: metadata.asked and all(read_metrics(folder) for folder in folders), "both train")
        metadata.give_notice()
        wait_for(lambda: is_gone(cluster), "Ray takes the node off")

    with in_ray(tmp_path / "repeated"), meanwhile(take_away):
        (found,) = repetition.train([variant], [0, 1])
    assert found.failures == [] and [run.epochs for run in found.runs] == [4, 4]
    for folder in folders:
        train(load_config(folder / "config.json"), data=tiny_data, directory=tmp_path / "alone" / folder.name)
        there, alone = read_metrics(folder), read_metrics(tmp_path / "alone" / folder.name)
        assert [comparable(m) for m in there] == [comparable(m) for m in alone]


@pytest.mark.slow
def test_a_process_that_stays_on_a_draining_node_begins_no_job(cluster: Cluster, metadata: Metadata) -> None:
    """As one does that Ray Tune keeps for its next job."""

    class Kept:
        def ask(self) -> str | None:
            try:
                node_watch().check()
            except NodeTakenError as error:
                return str(error)
            return None

    with contextlib.closing(Connected(cluster)):
        there = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(cluster.spot.node_id, soft=False)
        kept: Any = ray.remote(num_cpus=1)(Kept).options(scheduling_strategy=there).remote()
        assert ray.get(kept.ask.remote()) is None
        metadata.give_notice()
        wait_for(lambda: ray.get(kept.ask.remote()), "the watch goes on between two jobs")
        assert cluster.spot.node_id in ray._private.state.state.get_draining_nodes()


class Connected:
    """This process, as a driver of the cluster."""

    def __init__(self, cluster: Cluster) -> None:
        ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.ERROR)

    def close(self) -> None:
        ray.shutdown()


@pytest.mark.slow
def test_the_head_is_not_drained(metadata: Metadata, monkeypatch: pytest.MonkeyPatch, ray_running: None) -> None:
    """Its notice ends the whole search, by the process that drives it."""
    for name, value in metadata.environment("aws").items():
        monkeypatch.setenv(name, value)
    metadata.give_notice()
    node_watch().check()
    assert not any(thread.name == "node watch" for thread in threading.enumerate()) and not metadata.asked


def test_a_node_that_is_taken_away_is_no_fault_of_its_trial() -> None:
    error = NodeTakenError("its node 10.0.0.3 is taken away (spot notice of AWS)")
    for seen in (error, ray.exceptions.RayTaskError("train", "Traceback", error)):
        cause = cause_of(seen)
        assert cause.of_node and not cause.final and cause.reason == str(error)
