"""Independent trainings and evaluations as Ray tasks: started together, yielded as they end."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from nmt.config import Config, DecodeConfig
from nmt.data.store.ready import local_data
from nmt.errors import UserError
from tune.spaces.settings import Resources

LINE_SECONDS = 30.0
"""A line about how far the trainings are, when none has ended for so long."""
CHECKPOINT_SECONDS = 60.0
"""how long interrupted trainings may take to write their checkpoints"""


def _train_one(
    config: Config, data: str, directory: Path, decode_grid: tuple[DecodeConfig, ...], cpus: int
) -> Exception | None:
    """One training to its end, in a process of Ray's; returns the error that would only repeat."""
    import torch

    import nmt.training.loop
    import nmt.training.trainer

    torch.set_num_threads(cpus)
    try:
        nmt.training.loop.train(
            config, data=local_data(data, config), directory=directory, resume=True, decode_grid=decode_grid
        )
    except (nmt.training.trainer.DivergedError, UserError) as error:
        return error
    return None


def _test_one(checkpoint: Path, data: str, cpus: int) -> dict[str, Any] | UserError:
    """Accuracy of the checkpoint on the test split, in a process of Ray's."""
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
    """A training's process died, twice."""


def outcomes(
    work: Callable[..., Any],
    jobs: Mapping[Path, tuple[Any, ...]],
    resources: Resources,
    waiting: Callable[[], None],
) -> Iterator[tuple[Path, Any]]:
    """`work(*job, cpus)` of every job in Ray's processes: (key, result) as they end; `waiting` is called in between.

    A process that dies is started again, once; the result of a job whose process died twice is a ProcessDiedError.
    """
    import ray
    import ray.exceptions

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
                    yield key, ray.get(reference)
                except (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError):
                    yield key, ProcessDiedError("its process died twice (killed, out of memory, or crashed)")
    finally:
        for reference in keys:
            # In the process a KeyboardInterrupt, at which a training writes its checkpoint.
            ray.cancel(reference)
        if keys:
            ray.wait(list(keys), num_returns=len(keys), timeout=CHECKPOINT_SECONDS)
