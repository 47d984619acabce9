"""One trial of a search: one training, in the trial's own process or, with several workers, under Ray Train.

A trial owns the directory trials/ID and goes on from the checkpoint it finds there, whether its process was restarted
or the whole search. Retries are Ray Tune's alone: Ray Train fails at once, and an error that would only repeat (a
diverged loss, a wrong request) is reported as the trial's result instead of raised.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray.tune

from nmt.config import Config, DecodeConfig, from_dict
from nmt.errors import UserError
from tune.report import METRIC, read_metrics
from tune.searcher import trial_id
from tune.space import Resources

FAILURE = "failure"
"""key of a result that ends its trial as failed, and why"""
POLL_SECONDS = 0.2


@dataclass(frozen=True, kw_only=True)
class TrialSetup:
    """What all trials of a search share."""

    data: Path
    """the Arrow data set"""
    directory: Path
    """of the search"""
    decode_grid: tuple[DecodeConfig, ...]
    resources: Resources


def make_trainable(setup: TrialSetup) -> Callable[[dict[str, Any]], None]:
    """The function that Ray Tune runs for each trial."""

    def nmt_trial(trial: dict[str, Any]) -> None:
        run_trial(setup, trial)

    return nmt_trial


def run_trial(setup: TrialSetup, trial: Mapping[str, Any]) -> None:
    """Train {"number", "configuration"} to its end, reporting every epoch to Ray Tune."""
    from nmt.train import DivergedError

    directory = setup.directory / "trials" / trial_id(trial["number"])
    config = from_dict(trial["configuration"], source=f"trial {directory.name}")
    history = read_metrics(directory)
    if history:
        # A run that died may have trained this epoch without hearing the scheduler's decision on it.
        ray.tune.report(history[-1])
        if history[-1]["epoch"] >= config.train.epochs:
            return
    try:
        if setup.resources.workers == 1:
            _train_here(setup, config, directory)
        else:
            _train_on_workers(setup, config, directory)
    except (DivergedError, UserError) as error:
        epoch = history[-1]["epoch"] if (history := read_metrics(directory)) else 0
        ray.tune.report({FAILURE: str(error), METRIC: float("nan"), "epoch": epoch})


def _train_here(setup: TrialSetup, config: Config, directory: Path) -> None:
    import torch

    import nmt.train

    torch.set_num_threads(setup.resources.cpus)
    nmt.train.train(
        config,
        data=setup.data,
        directory=directory,
        on_epoch=lambda report: ray.tune.report(dict(report.metrics)),
        resume=True,
        decode_grid=setup.decode_grid,
    )


def _train_on_workers(setup: TrialSetup, config: Config, directory: Path) -> None:
    """Data-parallel training as a Ray Train job inside the trial.

    The job runs beside while this thread hands each epoch that rank 0 has put on disk to Ray Tune. (Ray's own relay,
    TuneReportCallback, can lose the last epoch: its queue and the end of the trial race.) Early stopping acts in
    `ray.tune.report`: it ends this thread, then the process, and with it the job.
    """
    epochs_reported = len(read_metrics(directory))
    job = _Job(_trainer(setup, config, directory).fit)
    job.start()
    running = True
    while running:
        job.join(POLL_SECONDS)
        running = job.is_alive()
        for metrics in read_metrics(directory)[epochs_reported:]:
            ray.tune.report(metrics)
            epochs_reported += 1
    if job.error is not None:
        raise _worker_error(job.error)


class _Job(threading.Thread):
    """`work` in a thread that dies with the process; `error` is what it raised."""

    def __init__(self, work: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self._work = work
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            self._work()
        except Exception as error:
            self.error = error


def _worker_error(error: Exception) -> Exception:
    """What a worker raised, where a retry is useless (a diverged loss, a wrong request); else `error` itself."""
    import ray.train

    from nmt.train import DivergedError

    failures = error.worker_failures.values() if isinstance(error, ray.train.WorkerGroupError) else ()
    return next((failure for failure in failures if isinstance(failure, DivergedError | UserError)), error)


def _trainer(setup: TrialSetup, config: Config, directory: Path) -> Any:
    import ray.train
    from ray.train.torch import TorchConfig, TorchTrainer

    resources = setup.resources
    return TorchTrainer(
        _train_on_worker,
        train_loop_config={"setup": setup, "config": config, "directory": directory},
        torch_config=TorchConfig(backend="nccl" if resources.gpus else "gloo"),
        scaling_config=ray.train.ScalingConfig(
            num_workers=resources.workers,
            use_gpu=resources.gpus > 0,
            resources_per_worker={"CPU": resources.cpus} | ({"GPU": resources.gpus} if resources.gpus else {}),
        ),
        run_config=ray.train.RunConfig(
            name=directory.name,
            storage_path=str(setup.directory / "ray" / "train"),
            # The default is to try for ever where workers cannot start.
            failure_config=ray.train.FailureConfig(max_failures=0, controller_failure_limit=2),  # type: ignore[call-arg]
        ),
    )


def _train_on_worker(job: dict[str, Any]) -> None:
    import torch

    import nmt.train

    setup: TrialSetup = job["setup"]
    torch.set_num_threads(setup.resources.cpus)
    nmt.train.train(
        job["config"],
        data=setup.data,
        directory=job["directory"],
        resume=True,
        decode_grid=setup.decode_grid,
    )
