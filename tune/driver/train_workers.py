"""`--train NAME --workers N`: one training by a group of workers (tune.jobs.worker_group), without a search.

It writes the same files as nmt.training.loop, and each of the two resumes from the checkpoint of the other.
"""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

from ray.exceptions import RayError
from ray.train import TrainingFailedError

from nmt.config import Config
from nmt.data.store.ready import ready_data
from nmt.errors import FailedError, UserError
from nmt.training.history import METRIC, best_epoch, read_metrics
from nmt.training.plan import plan_training
from nmt.training.signals import interruptions
from tune.driver.preflight import check_nodes
from tune.driver.ray_session import ray_session
from tune.driver.room import node_resources, room
from tune.jobs.control import open_control
from tune.jobs.reservations import release, training_of
from tune.jobs.worker_group import LOSSES_IN_A_ROW, WorkerGroup, reason
from tune.results import layout
from tune.results.log import log
from tune.results.storage import Storage
from tune.spaces.settings import Resources, workers_for


def train_together(
    config: Config,
    *,
    workers: str,
    data: str | Path,
    directory: Path,
    storage: Storage | None = None,
) -> dict[str, Any]:
    """Train, or resume the training in `directory`, with as many workers as asked for; return the best epoch's metrics.

    Connects to the cluster at RAY_ADDRESS if that is set; otherwise starts Ray on this machine until the training ends.
    Every node must see `data`, and `directory` unless there is a storage.

    Args:
        workers: "4", or "2:4" for a group that shrinks to no fewer than 2 when workers are lost, and grows again.
        storage: the storage of the training; None if `directory` is its only place.

    Raises:
        UserError: a wrong number of workers, or more than there is room for; nodes that do not see the same files;
            whatever nmt.training.loop.train raises.
        FailedError: workers were lost several times without an epoch in between.
        KeyboardInterrupt: a signal, after a checkpoint at the exact step.
    """
    asked = workers_for(workers, config.data.pairs_per_step)
    directory, ready = directory.resolve(), ready_data(data, [config])
    with ray_session(), open_control() as control:
        resources = spread(asked, node_resources())
        check_nodes([config], directory=directory, data=ready, storage=storage.address if storage is not None else None)
        group = WorkerGroup(
            config,
            directory=directory,
            data=ready.source,
            arguments={},
            resources=resources,
            control=control,
            storage=(storage, "") if storage is not None else None,
            scratch=directory / layout.RAY,
            note=log.info,
            waits=log.info,
        )
        log.info(f"{resources.workers} workers of {resources.cpus} CPUs, {resources.gpus:g} GPUs")
        log.info(str(plan_training(config, data=ready.folder, directory=directory, resume=True, timed=False)))
        try:
            with interruptions(group.ask_to_stop):
                _follow(group, config, directory)
        except (RayError, TrainingFailedError, RuntimeError, TimeoutError) as error:
            raise FailedError(
                f"{directory}: its workers were lost {LOSSES_IN_A_ROW} times in a row without an epoch in between "
                f"({reason(error)}); continue with --resume"
            ) from error
        finally:
            release(training_of(directory))
            shutil.rmtree(directory / layout.RAY, ignore_errors=True)
    if storage is not None:
        storage.fetch()
    return best_epoch(read_metrics(directory))


def _follow(group: WorkerGroup, config: Config, directory: Path) -> None:
    """Train to the last epoch, and print a line for each. Raises KeyboardInterrupt if the group was stopped before."""
    history = read_metrics(directory)
    epoch = history[-1]["epoch"] if history else 0
    while epoch < config.train.epochs:
        metrics = group.next_epoch()
        if metrics is None:
            raise KeyboardInterrupt
        epoch = metrics["epoch"]
        val = f", val {metrics[METRIC]:.1%}" if METRIC in metrics else ""
        log.info(
            f"epoch {epoch} of {config.train.epochs}: loss {metrics['train/loss']:.3f}{val}, "
            f"{metrics['train/pairs_per_second']:.1f} pairs/s with {metrics['workers']} workers"
        )
    group.stop()


def spread(asked: Resources, nodes: list[dict[str, float]]) -> Resources:
    """Return the resources of each worker: a GPU if the nodes have any, and as many cores as fit for all workers.

    Raises:
        UserError: the fewest workers have no room.
    """
    gpus = 1.0 if any(node.get("GPU", 0) >= 1 for node in nodes) else 0.0
    for wanted in (asked.workers, asked.fewest):
        for cpus in range(int(max(node.get("CPU", 0) for node in nodes)), 0, -1):
            resources = dataclasses.replace(asked, cpus=cpus, gpus=gpus)
            if room(resources, nodes) >= wanted:
                return resources
    there = "; ".join(f"{n.get('CPU', 0):g} CPUs, {n.get('GPU', 0):g} GPUs" for n in nodes)
    each = "a CPU and a GPU" if gpus else "a CPU"
    raise UserError(f"--workers: {asked.fewest} workers of at least {each} each do not fit: there are {there}")
