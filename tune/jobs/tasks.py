"""Independent trainings and evaluations as Ray tasks: started together, yielded as they end."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from nmt.config import Config, DecodeConfig
from nmt.data.store.ready import local_data
from nmt.errors import FailedError, UserError
from nmt.training.signals import interruptions
from tune.spaces.settings import Resources

LINE_SECONDS = 30.0
"""time without an ended training after which a line of progress is printed"""
CHECKPOINT_SECONDS = 60.0
"""time that interrupted trainings have to write their checkpoints"""


def train_to_end(
    config: Config, data: str, directory: Path, decode_grid: tuple[DecodeConfig, ...], cpus: int
) -> Exception | None:
    """Train to the last epoch in a Ray process. Return the error that ended it, a NodeTakenError too."""
    import torch

    import nmt.training.loop
    from tune.jobs.spot import NodeTakenError, node_watch

    torch.set_num_threads(cpus)
    watch = node_watch()
    try:
        watch.check()
        with interruptions(notices=False) as came:  # the node is watched, not this process
            nmt.training.loop.train(
                config,
                data=local_data(data, config),
                directory=directory,
                resume=True,
                decode_grid=decode_grid,
                interrupted=lambda: came() or watch.taken,
            )
    except KeyboardInterrupt:
        if watch.reason is None:
            raise
        return NodeTakenError(watch.reason)
    except (FailedError, UserError) as error:
        return error
    return None


def evaluate_on_test(checkpoint: Path, data: str, cpus: int) -> dict[str, Any] | UserError:
    """Evaluate the checkpoint on the test split, in a Ray process."""
    import torch

    from nmt.inference.evaluate import MODEL, evaluate_checkpoint

    torch.set_num_threads(cpus)
    try:
        found = evaluate_checkpoint(checkpoint, data=data, split="test")
    except UserError as error:
        return error
    return {
        "accuracy": found.mean[MODEL],
        "per_category": found.per_category[MODEL],
        "pairs": found.pairs,
        "decode": dataclasses.asdict(found.decode),
    }


class ProcessDiedError(Exception):
    """The process of a training died twice."""


def outcomes(
    work: Callable[..., Any],
    jobs: Mapping[Path, tuple[Any, ...]],
    resources: Resources,
    waiting: Callable[[], None],
) -> Iterator[tuple[Path, Any]]:
    """Run `work(*job, cpus)` for every job in Ray processes, and yield (key, result) as they end.

    A process that dies is started once more. If that dies too, the result is a ProcessDiedError. A training that ended
    because its node is taken away continues elsewhere, as often as that happens. When the caller stops early, running
    trainings get a KeyboardInterrupt, at which they write their checkpoints.

    Args:
        jobs: key -> arguments of `work`.
        resources: of one job.
        waiting: called when no job has ended for LINE_SECONDS.
    """
    import ray
    import ray.exceptions

    from tune.jobs.spot import NodeTakenError

    task = ray.remote(num_cpus=resources.cpus, num_gpus=resources.gpus, max_retries=1)(work)
    keys = {task.remote(*job, resources.cpus): key for key, job in jobs.items()}
    try:
        while keys:
            ended, _ = ray.wait(list(keys), timeout=LINE_SECONDS)
            if not ended:
                waiting()
            for reference in ended:
                key = keys.pop(reference)
                try:
                    result = ray.get(reference)
                    if isinstance(result, NodeTakenError):
                        keys[task.remote(*jobs[key], resources.cpus)] = key
                    else:
                        yield key, result
                except (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError):
                    yield key, ProcessDiedError("its process died twice (killed, out of memory, or crashed)")
    finally:
        for reference in keys:
            # Raises KeyboardInterrupt in the process, at which a training writes its checkpoint.
            ray.cancel(reference)
        if keys:
            ray.wait(list(keys), num_returns=len(keys), timeout=CHECKPOINT_SECONDS)
