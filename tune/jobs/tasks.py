"""Independent trainings and evaluations as Ray tasks: started together, yielded as they end."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nmt.config import Config, DecodeConfig, load_config
from nmt.data.store.ready import local_data
from nmt.errors import FailedError, TemporaryError, UserError
from nmt.io.files import require_file, write_json
from nmt.training.files import BEST, CONFIG
from nmt.training.out_of_memory import pairs_at_once, twice_within_memory
from nmt.training.signals import interruptions
from tune.results.layout import figures_file, pairs_file, run_folder
from tune.spaces.settings import Resources

if TYPE_CHECKING:
    from nmt.inference.evaluate import Evaluation
    from nmt.pair_results import PairResults

LOOK_SECONDS = 2.0
"""time between two looks at the trainings that run"""
CHECKPOINT_SECONDS = 60.0
"""time that interrupted trainings have to write their checkpoints"""


def train_with_f1(
    config: Config, data: str, directory: Path, decode_grid: tuple[DecodeConfig, ...], cpus: int
) -> Exception | None:
    """Train as `train_to_end` does, and measure val/f1 after each epoch."""
    return train_to_end(config, data, directory, decode_grid, cpus, val_f1=True)


def train_to_end(
    config: Config,
    data: str,
    directory: Path,
    decode_grid: tuple[DecodeConfig, ...],
    cpus: int,
    *,
    val_f1: bool = False,
) -> Exception | None:
    """Train to the last epoch in a Ray process.

    Memory that runs out is met as in a search: the training continues with half as many pairs per forward pass.

    Returns:
        The error that ended it, in words for the user, or a NodeTakenError; None if it has ended well.
    """
    import torch

    import nmt.training.loop
    from tune.jobs.spot import NodeTakenError, node_watch

    torch.set_num_threads(cpus)
    watch = node_watch()

    def train(config: Config, again: bool) -> None:
        with interruptions(notices=False) as came:  # the node is watched, not this process
            nmt.training.loop.train(
                config,
                data=local_data(data, config),
                directory=directory,
                resume=True,
                decode_grid=decode_grid,
                val_f1=val_f1,
                interrupted=lambda: came() or watch.taken,
                root=run_folder(directory),
            )

    try:
        watch.check()
        twice_within_memory(train, config)
        _keep_val_results(config, data, directory)
    except KeyboardInterrupt:
        if watch.reason is None:
            raise
        return NodeTakenError(watch.reason)
    except (FailedError, UserError) as error:
        return error
    return None


def _keep_val_results(config: Config, data: str, directory: Path) -> None:
    """Write how good the best weights are on val: by pair, for intervals over photographs, and by all measures."""
    from nmt.inference.evaluate import evaluate_pairs

    def evaluate(config: Config, outliers: bool) -> tuple[Evaluation, PairResults]:
        place, num = local_data(data, config), pairs_at_once(config)
        return evaluate_pairs(
            directory / BEST, data=place, split="val", pairs_at_once=num, alone=True, outliers=outliers
        )

    if not config.data.validates:
        return
    try:
        found, by_pair = twice_within_memory(lambda config, again: evaluate(config, outliers=True), config)
    except UserError:  # no threshold has the precision of decode.unmatched, which is no failure of the training
        found, by_pair = twice_within_memory(lambda config, again: evaluate(config, outliers=False), config)
    by_pair.save(directory / pairs_file("val"))
    write_json(directory / figures_file("val"), _figures(found))


def evaluate_on_test(checkpoint: Path, data: str, cpus: int) -> dict[str, Any] | UserError:
    """Evaluate the checkpoint on the test split, in a Ray process; memory that runs out is met as in a training.

    What it gets right on each pair is written beside it.
    """
    import torch

    from nmt.inference.evaluate import evaluate_pairs

    torch.set_num_threads(cpus)

    def evaluate(config: Config, again: bool) -> tuple[Evaluation, PairResults]:
        at_once = pairs_at_once(config)
        return evaluate_pairs(checkpoint, data=data, split="test", pairs_at_once=at_once, alone=True, outliers=True)

    try:
        require_file(checkpoint, "checkpoint")
        found, by_pair = twice_within_memory(evaluate, load_config(checkpoint.parent / CONFIG))
        by_pair.save(checkpoint.with_name(pairs_file("test")))
    except UserError as error:
        return error
    return _figures(found)


def _figures(found: Evaluation) -> dict[str, Any]:
    """Return the figures of the matcher in an evaluation, as plain values."""
    from nmt.pair_results import MODEL

    return {
        "accuracy": found.mean[MODEL],
        "per_category": found.per_category[MODEL],
        "pairs": found.pairs,
        "decode": dataclasses.asdict(found.decode),
        "outliers": None if found.outliers is None else dataclasses.asdict(found.outliers),
        "pck": None if found.pck is None else dataclasses.asdict(found.pck),
    }


class ProcessDiedError(TemporaryError):
    """The process of a job died twice."""


def outcomes(
    work: Callable[..., Any],
    jobs: Mapping[Path, tuple[Any, ...]],
    resources: Resources,
    waiting: Callable[[], None],
) -> Iterator[tuple[Path, Any]]:
    """Run `work(*job, cpus)` for every job in Ray processes, and yield (key, result) as they end.

    A process that dies is started once more. If that dies too, the result is a ProcessDiedError. If the job ends with
    an error, that is its result, and the others go on. A training that ended because its node is taken away continues
    elsewhere, as often as that happens. When the caller stops early, running trainings get a KeyboardInterrupt, at
    which they write their checkpoints.

    Args:
        jobs: key -> arguments of `work`.
        resources: of one job.
        waiting: called every LOOK_SECONDS while no job ends.
    """
    import ray

    from tune.jobs.spot import NodeTakenError

    # Ray would start a process again without end that its monitor of the host's memory has killed.
    task = ray.remote(num_cpus=resources.cpus, num_gpus=resources.gpus, max_retries=0)(work)
    keys = {task.remote(*job, resources.cpus): key for key, job in jobs.items()}
    died: set[Path] = set()
    try:
        while keys:
            ended, _ = ray.wait(list(keys), timeout=LOOK_SECONDS)
            if not ended:
                waiting()
            for reference in ended:
                key = keys.pop(reference)
                result = _result(reference)
                died_once = isinstance(result, ProcessDiedError) and key not in died
                if died_once or isinstance(result, NodeTakenError):
                    died |= {key} if died_once else set()
                    keys[task.remote(*jobs[key], resources.cpus)] = key
                else:
                    yield key, result
    finally:
        for reference in keys:
            # Raises KeyboardInterrupt in the process, at which a training writes its checkpoint.
            ray.cancel(reference)
        if keys:
            ray.wait(list(keys), num_returns=len(keys), timeout=CHECKPOINT_SECONDS)


def _result(reference: Any) -> Any:
    """Return what a task has returned, or the error that it ended with."""
    import ray
    import ray.exceptions

    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        return error.cause if isinstance(error.cause, Exception) else error
    except (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError, ray.exceptions.NodeDiedError):
        return ProcessDiedError("its process died twice (killed, out of memory, or crashed)")
    except Exception as error:  # whatever else Ray has: one job never ends the others
        return error
