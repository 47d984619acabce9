"""Training: the published recipe on images or on stored features, resumable at the exact step.

`train` decides when to evaluate, checkpoint and report; `trainer.Trainer` holds the parts and the step. The only
way out is the hook `on_epoch`, called by every rank when the epoch's checkpoint is on disk: raising in it stops without
loss.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from nmt import distributed
from nmt.config import Config, DecodeConfig
from nmt.io.files import write_json
from nmt.training.files import BEST, CHECKPOINT, HOSTS
from nmt.training.history import EpochResult, Progress, write_metrics
from nmt.training.signals import interruptions
from nmt.training.trainer import Trainer

if TYPE_CHECKING:
    from nmt.training.tensorboard import TensorBoardLog

CHECKPOINT_SECONDS = 600
"""A long epoch is checkpointed at least this often; a crash loses no more."""


def train(
    config: Config,
    *,
    data: Path,
    directory: Path,
    on_epoch: Callable[[EpochResult], None] | None = None,
    resume: bool = False,
    until: int | None = None,
    decode_grid: Sequence[DecodeConfig] = (),
    progress: bool = False,
    device: torch.device | None = None,
    interrupted: Callable[[], bool] | None = None,
) -> EpochResult:
    """Train to `config.train.epochs`, or to the end of epoch `until`; returns the report of the best epoch.

    Leaves in `directory`: config.json, checkpoint.pt (to resume), best.pt (best validation epoch), metrics.jsonl, and
    TensorBoard events. Trains as one of the process group when torch.distributed is initialised; hosts.json then tells
    who trained from which step on.

    Args:
        data: the Arrow data set.
        on_epoch: called by every rank after each epoch's checkpoint.
        resume: go on from checkpoint.pt where there is one.
        until: stop there for now; the schedule is still that of all epochs, and `resume` goes on with it.
        decode_grid: decode settings swept on the validation similarities; `val/accuracy` is the best of them.
        progress: a progress bar on standard error.
        device: by default this rank's, see nmt.device.pick_device.
        interrupted: asked after each step; when true on any rank, all save and leave. By default whether SIGINT or
            SIGTERM came.

    Raises:
        UserError: a wrong configuration, missing data, a full disk.
        DivergedError: the loss is no longer finite.
        KeyboardInterrupt: interrupted, after a checkpoint at the exact step.
    """
    trainer = Trainer(config, data=data, device=device)
    trainer.begin(directory, resume=resume)
    first = distributed.rank() == 0
    trainers = distributed.trainers(trainer.device)
    if first and trainers:
        _note_trainers(directory, trainer.progress, trainers)
    with contextlib.ExitStack() as stack:
        log = open_log(trainer, directory, stack) if first else None
        interrupted = interrupted or stack.enter_context(interruptions())
        bar = stack.enter_context(_progress_bar(trainer, shown=progress and first))
        while trainer.progress.epoch < min(until or config.train.epochs, config.train.epochs):
            report = _run_epoch(trainer, directory, decode_grid, interrupted, bar)
            if log is not None:
                log_epoch(trainer, log, report)
            if on_epoch is not None:
                on_epoch(report)
    return trainer.progress.best()


def _run_epoch(
    trainer: Trainer,
    directory: Path,
    decode_grid: Sequence[DecodeConfig],
    interrupted: Callable[[], bool],
    bar: Any,
) -> EpochResult:
    progress = trainer.progress
    last_saved = time.monotonic()

    def on_step(step: int) -> None:
        nonlocal last_saved
        bar.update(1)
        due = time.monotonic() - last_saved > CHECKPOINT_SECONDS
        agreed = distributed.largest(2 if interrupted() else 1 if due else 0)
        if agreed:
            trainer.save(directory / CHECKPOINT)
            last_saved = time.monotonic()
        if agreed == 2:
            raise KeyboardInterrupt

    losses = trainer.train_epoch(on_step=on_step)
    evaluation_started = time.perf_counter()
    metrics = trainer.evaluate(decode_grid)
    progress.seconds += progress.epoch_seconds + time.perf_counter() - evaluation_started
    report = finish_epoch(trainer, directory, losses, metrics)
    bar.set_postfix_str(f"epoch {report.epoch}: loss {losses['loss']:.3f}, val {metrics['val/accuracy']:.1%}")
    return report


def finish_epoch(
    trainer: Trainer, directory: Path, losses: Mapping[str, float], metrics: dict[str, float | int | str]
) -> EpochResult:
    """Counts the epoch, and leaves its checkpoint, best.pt where it is the best, and metrics.jsonl."""
    progress, config = trainer.progress, trainer.config
    pairs = config.train.steps_per_epoch * config.data.pairs_per_step
    metrics |= {f"train/{name}": value for name, value in losses.items()}
    metrics |= {"train/pairs_per_second": pairs / progress.epoch_seconds, "seconds": progress.seconds}
    progress.epoch += 1
    metrics = {"epoch": progress.epoch, **metrics, "workers": distributed.world_size()}
    progress.history.append(metrics)
    progress.step, progress.loss_sums, progress.epoch_seconds = 0, {}, 0.0
    improved = metrics["val/accuracy"] > progress.best_accuracy  # type: ignore[operator]
    progress.best_accuracy = max(progress.best_accuracy, float(metrics["val/accuracy"]))
    first = distributed.rank() == 0
    if first and improved:
        trainer.save_best(directory / BEST, metrics)
    trainer.save(directory / CHECKPOINT)
    if first:
        write_metrics(directory, progress)
    distributed.barrier()
    return EpochResult(progress.epoch, metrics)


def _note_trainers(directory: Path, progress: Progress, trainers: list[dict[str, Any]]) -> None:
    """Adds to hosts.json, a list of {"epoch" under way, "step" done of it, "workers": [{"rank", "host", "device"}]}."""
    path = directory / HOSTS
    earlier = json.loads(path.read_text()) if progress.epoch + progress.step and path.is_file() else []
    write_json(path, [*earlier, {"epoch": progress.epoch + 1, "step": progress.step, "workers": trainers}])


def open_log(trainer: Trainer, directory: Path, stack: contextlib.ExitStack) -> TensorBoardLog:
    """The TensorBoard events of a training, closed with `stack`."""
    from nmt.training.tensorboard import TensorBoardLog

    log = TensorBoardLog(directory, first_epoch=trainer.progress.epoch + 1)
    stack.callback(log.close)
    return log


def log_epoch(trainer: Trainer, log: TensorBoardLog, report: EpochResult) -> None:
    """The epoch's curves, and matched pairs where it is the best so far."""
    log.scalars({k: v for k, v in report.metrics.items() if k != "epoch"}, report.epoch)
    if float(report.metrics["val/accuracy"]) >= trainer.progress.best_accuracy:
        _log_picture(trainer, log, report.epoch)


def _progress_bar(trainer: Trainer, *, shown: bool) -> Any:
    from tqdm import tqdm

    steps, progress = trainer.config.train.steps_per_epoch, trainer.progress
    return tqdm(
        total=steps * trainer.config.train.epochs,
        initial=steps * progress.epoch + progress.step,
        unit="step",
        disable=not shown,
        dynamic_ncols=True,
    )


def _log_picture(trainer: Trainer, log: TensorBoardLog, epoch: int) -> None:
    from nmt.inference.pictures import draw_sheet
    from nmt.inference.sample import sample_pairs

    pairs = sample_pairs(trainer.matcher, trainer.store, trainer.features, trainer.config, split="val", count=6)
    log.picture("val/matches", draw_sheet(pairs, side=160), epoch)
