"""Estimate how long a search takes before it starts: from an earlier training of the same cost, or a few steps."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import ray.exceptions
import torch

from nmt.config import Config, DecodeConfig, load_config, with_overrides
from nmt.data.store.objects import ObjectStore
from nmt.data.store.ready import ReadyData, local_data
from nmt.device import limit_threads, pick_device
from nmt.durations import in_words
from nmt.errors import UserError, one_line
from nmt.training.files import CONFIG, METRICS
from nmt.training.history import read_metrics
from nmt.training.plan import LONG_SECONDS, measure, shorter
from tune.driver.room import workers_on
from tune.results.log import log
from tune.spaces.space import Space
from tune.study.budget import most_epochs, usual_epochs
from tune.study.study import ladder

TIMED_SECONDS = 0.2
"""time spent on steps to estimate the time of an epoch"""
TASK_SECONDS = 60.0
"""longest wait for the time of a step on images, measured in a process of its own"""
TINY_STEPS = 100
"""steps of all trials on images together that are not measured: the first trial ends as soon"""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """The time of a search that is about to start."""

    epoch: float | None
    """seconds per epoch of the default configuration; None if that is not known"""
    basis: str
    """how it is known, or why it is not"""
    usual: float | None
    """epochs of all trials with early stopping as it usually is; None if that is not known"""
    most: float
    """epochs of all trials, at most; infinite if only time or patience ends the search"""
    side_by_side: int
    """trials that run at once"""
    shorter: str = ""
    """how to make a long search shorter"""

    def hours(self, epochs: float | None) -> float | None:
        """Return the time of so many epochs; None if it is not known."""
        if self.epoch is None or epochs is None or not math.isfinite(epochs):
            return None
        return epochs * self.epoch / self.side_by_side / 3600

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for --json."""
        return {"hours": self.hours(self.most), "usual_hours": self.hours(self.usual)}

    def __str__(self) -> str:
        most, usual = self.hours(self.most), self.hours(self.usual)
        if self.epoch is None:
            return f"not known: {self.basis}"
        if most is None:
            return f"until the search's limit ({in_words(self.epoch)} per epoch, {self.basis})"
        early = f"about {in_words(3600 * usual)} with early stopping as usual, " if usual is not None else ""
        return f"{early}at most {in_words(3600 * most)} ({in_words(self.epoch)} per epoch, {self.basis})"


def estimate(space: Space, *, data: ReadyData, results: Path, at_once: int) -> Estimate:
    """Return the time of a search, within a running Ray.

    Args:
        results: folder of all searches, whose trainings are as fast as those to come.
        at_once: trials that there is room for.

    Raises:
        UserError: what the first step of a trial would raise.
    """
    search, rungs = space.search, ladder(space)
    epoch, basis = _epoch(space, data, results)
    usual = min(usual_epochs(search.trials, rungs), search.epochs or math.inf) if search.trials else None
    found = Estimate(
        epoch=epoch,
        basis=basis,
        usual=usual if len(rungs.rungs) > 1 else None,
        most=most_epochs(search, rungs.epochs),
        side_by_side=min(at_once, search.trials or at_once),
    )
    hours = found.hours(found.usual or found.most)
    if hours is None or 3600 * hours <= LONG_SECONDS:
        return found
    objects = sum(ObjectStore.open(data.folder).info.counts["train"].values())
    trials = f"--trials N (now {search.trials}), " if search.trials else ""
    ways = trials + shorter(space.base, objects=objects, device="cuda" if space.resources.gpus else "cpu")
    return dataclasses.replace(found, shorter=ways)


def _epoch(space: Space, data: ReadyData, results: Path) -> tuple[float | None, str]:
    """Return the seconds of an epoch, and how they are known or why they are not."""
    if (earlier := seconds_per_epoch(space.base, results)) is not None:
        return earlier[0], f"as in {earlier[1]}"
    base, resources = space.base, space.resources
    if base.train.compile:
        return None, "the first steps of a compiled model compile, which takes longer than the others"
    if base.data.mode == "images":
        if most_epochs(space.search, base.train.epochs) * base.train.steps_per_epoch < TINY_STEPS:
            return None, "too few steps to measure them first"
        return _in_a_process(space, data)
    if len([node for node in ray.nodes() if node["Alive"]]) > 1 or bool(resources.gpus) != torch.cuda.is_available():
        return None, "no training of this data set and model is in the results yet, and this node does not train"
    limit_threads(base)
    timed = _of_one_worker(space)
    pace = measure(timed, data=data.folder, decode_grid=space.decode_grid(), device=pick_device(), enough=TIMED_SECONDS)
    return pace.epoch, "measured on a few steps; starting and saving on top"


def _of_one_worker(space: Space) -> Config:
    """Return the default configuration with the pairs of one worker, which take as long as those of all."""
    pairs = max(1, space.base.data.pairs_per_step // space.resources.workers)
    return with_overrides(space.base, {"data.pairs_per_step": pairs}, source="one worker")


def _in_a_process(space: Space, data: ReadyData) -> tuple[float | None, str]:
    """Measure a few steps with the resources of a worker, in a process that then gives back the memory it took."""
    resources = space.resources
    if not any(workers_on(resources, node["Resources"]) for node in ray.nodes() if node["Alive"]):
        return None, "no node that trains has started yet"  # nor shall an estimate start one, which costs money
    task: Any = ray.remote(num_cpus=resources.cpus, num_gpus=resources.gpus, max_retries=0, max_calls=1)(timed_epoch)
    reference = task.remote(_of_one_worker(space), space.decode_grid(), data, resources.cpus)
    if not ray.wait([reference], timeout=TASK_SECONDS)[0]:
        ray.cancel(reference, force=True)
        return None, f"the first steps have taken longer than {in_words(TASK_SECONDS)}"
    try:
        return float(ray.get(reference)), "measured on a few steps; starting and saving on top"
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, UserError):
            raise UserError(str(error.cause)) from None
        return None, f"the first steps have failed ({one_line(error.cause)}); the trials try them with less memory"
    except ray.exceptions.RayError as error:
        return None, f"the first steps could not be timed ({one_line(error)})"


def timed_epoch(config: Config, decode_grid: Sequence[DecodeConfig], data: ReadyData, cpus: int) -> float:
    """Return the seconds of an epoch from a few steps in this process."""
    torch.set_num_threads(cpus)
    folder = local_data(data, config)
    return measure(config, data=folder, decode_grid=decode_grid, device=pick_device(), enough=TIMED_SECONDS).epoch


def seconds_per_epoch(base: Config, results: Path) -> tuple[float, Path] | None:
    """Estimate the time of an epoch from earlier trainings below `results` with the same cost per step.

    Returns:
        The median in seconds and the folder it was measured in; None without such a training. Folders that cannot be
        read are left out.
    """
    for metrics in _newest_first(results.rglob(METRICS)):
        try:
            config = load_config(metrics.parent / CONFIG)
        except UserError:
            continue
        if _cost(config) != _cost(base):
            continue
        try:
            seconds = [0.0] + [float(epoch["seconds"]) for epoch in read_metrics(metrics.parent)]
        except (UserError, KeyError, ValueError, TypeError) as error:
            log.info(f"{metrics}: not used to estimate the time of an epoch ({one_line(error)})")
            continue
        if len(seconds) > 1:
            steps = base.train.steps_per_epoch / config.train.steps_per_epoch
            return steps * statistics.median(b - a for a, b in itertools.pairwise(seconds)), metrics.parent
    return None


def _newest_first(paths: Iterable[Path]) -> list[Path]:
    """Sort the files that are still there by the time of their last change."""
    times = {}
    for path in paths:
        with contextlib.suppress(OSError):  # removed meanwhile, or in a folder that cannot be entered
            times[path] = path.stat().st_mtime
    return sorted(times, key=lambda path: times[path], reverse=True)


def _cost(config: Config) -> tuple[Any, ...]:
    """Return the configuration that the time of a step depends on."""
    return (config.data, config.model, config.train.precision, config.train.compile)
