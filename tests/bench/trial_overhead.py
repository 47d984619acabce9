"""What a trial costs beside its training: trials of four epochs of nothing, with a checkpoint each.

    python tests/bench/trial_overhead.py [--trials 20] [--groups 3] [--record]

One worker: a function in Ray Tune's own process, which the next trial reuses, with the settings of a search. Two
workers: the group of a trial (tune.jobs.worker_group), so a Ray Train job, one after another in one process, with
where the time
goes.

Seen on two idle cores: one worker 0.25 s on average (the first 4.6, then 0.03); two workers 17.9 s: 16.9 until the
workers' first line, of which a processor was busy for 0.5 to 8.7, 0.0 for the epochs, 0.9 to end.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import ray.tune
import torch
from record import record

from nmt import checkpoint
from nmt.config import Config
from nmt.training.history import EpochResult
from tune.driver.ray_session import ray_session
from tune.jobs.control import open_control
from tune.jobs.worker_group import WorkerGroup
from tune.spaces.settings import Resources

EPOCHS = 4
STAGES = ("room and job to the first line of the workers", "four epochs", "to the end of the job")


def save(directory: Path, epoch: int) -> dict[str, Any]:
    """An epoch of nothing: a small checkpoint, and metrics."""
    checkpoint.save(directory / "checkpoint.pt", {"weight": torch.zeros(1000), "epoch": epoch})
    return {"epoch": epoch, "val/accuracy": 0.5}


def one_worker(trials: int, directory: Path) -> str:
    """Return the mean seconds a trial of one worker takes, the first and its start of a process included."""

    def trial(config: dict[str, Any]) -> None:
        for epoch in range(EPOCHS):
            ray.tune.report(save(directory / "trials" / str(config["number"]), epoch))

    ends: list[float] = []

    class Ends(ray.tune.Callback):
        def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
            ends.append(time.perf_counter())

    started = time.perf_counter()
    ray.tune.Tuner(
        ray.tune.with_resources(trial, {"CPU": 1}),
        param_space={"number": ray.tune.grid_search(list(range(trials)))},
        tune_config=ray.tune.TuneConfig(max_concurrent_trials=1, reuse_actors=True),
        run_config=ray.tune.RunConfig(
            name="tune", storage_path=str(directory / "ray"), callbacks=[Ends()], verbose=0,
            checkpoint_config=ray.tune.CheckpointConfig(checkpoint_at_end=False),
        ),
    ).fit()  # fmt: skip
    seconds = [end - begin for begin, end in zip([started, *ends], ends, strict=False)]
    mean, later = (ends[-1] - started) / trials, statistics.median(seconds[1:])
    return f"{mean:.2f} s a trial, mean of {trials}; the first {seconds[0]:.1f}, then {later:.2f} (median)"


def cpu_seconds() -> float:
    """Of this process and all below it, those that have ended included: what a busy machine does not stretch."""
    total = 0.0
    for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            total += sum(process.cpu_times()[:4])  # user, system, and those of its children that ended
    return total


def nothing(
    config: Config, *, directory: Path, on_epoch: Callable[[EpochResult], None], times: Path, **others: Any
) -> None:
    """In place of nmt.training.loop.train."""
    first = torch.distributed.get_rank() == 0
    if first:
        times.write_text(str(time.time()))
    for epoch in range(EPOCHS):
        metrics = save(directory, epoch) if first else {}
        on_epoch(EpochResult(epoch, metrics))


def two_workers(groups: int, directory: Path) -> str:
    """Return the median seconds of a trial of two workers, and of each of its stages."""
    taken = []
    with open_control() as control:
        for number in range(groups):
            times = directory / f"times-{number}"
            group = WorkerGroup(
                Config(),
                directory=directory / f"group-{number}",
                data=str(directory),
                arguments={"times": times},
                resources=Resources(workers=2),
                control=control,
                storage=None,
                scratch=directory / "ray" / "train",
                note=print,
                training=nothing,
            )
            started, used = time.time(), cpu_seconds()
            for _ in range(EPOCHS):
                group.next_epoch()
            trained = time.time()
            group.stop()
            begun = float(times.read_text())
            taken.append((begun - started, trained - begun, time.time() - trained))
            print(f"  {sum(taken[-1]):.1f} s, of them on a processor {cpu_seconds() - used:.1f}")
    stages = zip(STAGES, zip(*taken, strict=True), strict=True)
    parts = ", ".join(f"{stage} {statistics.median(seconds):.1f}" for stage, seconds in stages)
    return f"{statistics.median(sum(t) for t in taken):.1f} s a trial, median of {groups} ({parts})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=20, help="of one worker")
    parser.add_argument("--groups", type=int, default=3, help="trials of two workers")
    parser.add_argument("--record", action="store_true", help="write the figures to RESULTS.md")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, ray_session():
        figures = {"one worker": one_worker(args.trials, Path(scratch))}
        if args.groups:
            figures["two workers"] = two_workers(args.groups, Path(scratch))
    print("\n".join(f"{name}: {figure}" for name, figure in figures.items()))
    if args.record:
        record(figures)


if __name__ == "__main__":
    main()
