"""Training loop: the published recipe on images or on stored features, resumable at the exact step.

`train` decides when to evaluate, checkpoint and report; `trainer.Trainer` holds the parts and the step. Callers follow
a training through the hooks `on_epoch` and `on_checkpoint` alone. Every rank calls them once the checkpoint is on disk,
so an exception raised in one stops the training without loss.
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
from nmt.training import state
from nmt.training.calibration import calibrate
from nmt.training.files import BEST, CHECKPOINT, HOSTS
from nmt.training.history import METRIC, EpochResult, Progress, write_metrics
from nmt.training.signals import interruptions
from nmt.training.trainer import Trainer
from nmt.training.validation import validate

if TYPE_CHECKING:
    from nmt.training.loggers.chosen import Loggers

CHECKPOINT_SECONDS = 600
"""longest time between checkpoints within an epoch, seconds: what a crash can lose"""


def train(
    config: Config,
    *,
    data: Path,
    directory: Path,
    on_epoch: Callable[[EpochResult], None] | None = None,
    on_checkpoint: Callable[[], None] | None = None,
    resume: bool = False,
    until: int | None = None,
    decode_grid: Sequence[DecodeConfig] = (),
    progress: bool = False,
    device: torch.device | None = None,
    interrupted: Callable[[], bool] | None = None,
    root: Path | None = None,
    val_f1: bool = False,
) -> EpochResult:
    """Train to `config.train.epochs`, or to the end of epoch `until`.

    Writes to `directory`: config.json, checkpoint.pt (to resume) and the one before it, best.pt (best epoch on val; the
    last without val), metrics.jsonl and the files of `train.loggers`. In a group of torch.distributed it trains as one
    worker; hosts.json then records the workers and the step they trained from.

    Args:
        config: the whole configuration.
        data: the Arrow data set.
        directory: where the training writes.
        on_epoch: hook that every rank calls after each epoch's checkpoint.
        on_checkpoint: hook that every rank calls after each checkpoint within an epoch, unless the training then stops.
        resume: continue from checkpoint.pt if there is one; see nmt.training.state.begin for damaged files.
        until: last epoch of this call, 1 = the first. Its schedule is that of all epochs; `resume` continues it.
        decode_grid: decodings to try on the validation similarities; `val/accuracy` is the best of them.
        progress, val_f1: show a progress bar on standard error; also measure val/f1 after each epoch.
        device: device to train on; by default this rank's, see nmt.device.pick_device.
        interrupted: called after each step; when True on any rank, all save and stop. By default after SIGNALS.
        root: folder of the search that the training is part of, for its loggers.

    Returns:
        The report of the epoch in best.pt.

    Raises:
        UserError: a wrong configuration, missing data, a full disk.
        FailedError: best.pt was removed meanwhile.
        DivergedError: the loss is no longer finite.
        KeyboardInterrupt: interrupted, after a checkpoint at the exact step.
    """
    trainer = Trainer(config, data=data, device=device, val_f1=val_f1)
    state.begin(trainer, directory, resume=resume)
    first = distributed.rank() == 0
    if (trainers := distributed.trainers(trainer.device)) and first:
        _note_trainers(directory, trainer.progress, trainers)
    with contextlib.ExitStack() as stack:
        log = open_log(trainer, directory, stack, root) if first else None
        interrupted = interrupted or stack.enter_context(interruptions())
        bar = stack.enter_context(_progress_bar(trainer, shown=progress and first))
        while trainer.progress.epoch < min(until or config.train.epochs, config.train.epochs):
            report = _run_epoch(trainer, directory, decode_grid, interrupted, bar, on_checkpoint)
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
    on_checkpoint: Callable[[], None] | None,
) -> EpochResult:
    """Train the rest of the current epoch, evaluate and checkpoint; save and raise when interrupted."""
    progress = trainer.progress
    last_saved = time.monotonic()

    def on_step(step: int) -> None:
        nonlocal last_saved
        bar.update(1)
        due = time.monotonic() - last_saved > CHECKPOINT_SECONDS
        # Saving sums over the ranks, so all ranks must save at the same step: the most urgent wish of any counts.
        agreed = distributed.largest(2 if interrupted() else 1 if due else 0)
        if agreed:
            state.save(trainer, directory / CHECKPOINT)
            last_saved = time.monotonic()
        if agreed == 2:
            raise KeyboardInterrupt
        if agreed and on_checkpoint is not None:
            on_checkpoint()

    losses = trainer.train_epoch(on_step=on_step)
    evaluation_started = time.perf_counter()
    metrics = validate(trainer, decode_grid)
    progress.seconds += progress.epoch_seconds + time.perf_counter() - evaluation_started
    report = finish_epoch(trainer, directory, losses, metrics)
    val = f", val {metrics[METRIC]:.1%}" if METRIC in metrics else ""
    bar.set_postfix_str(f"epoch {report.epoch}: loss {losses['loss']:.3f}{val}")
    return report


def finish_epoch(
    trainer: Trainer, directory: Path, losses: Mapping[str, float], metrics: dict[str, float | int | str]
) -> EpochResult:
    """Complete the current epoch: add it to the history, and write best.pt (if it is the best), checkpoint and metrics.

    Every rank calls it.

    Args:
        trainer: the training.
        directory: where to write.
        losses: mean of each loss term over the epoch.
        metrics: result of the evaluation.
    """
    progress, config = trainer.progress, trainer.config
    pairs = config.train.steps_per_epoch * config.data.pairs_per_step
    metrics |= {f"train/{name}": value for name, value in losses.items()}
    metrics |= {"train/pairs_per_second": pairs / progress.epoch_seconds, "seconds": progress.seconds}
    metrics["train/learning_rate"] = trainer.optimizer.param_groups[0]["lr"]
    progress.epoch += 1
    metrics = {"epoch": progress.epoch, **metrics, "workers": distributed.world_size()}
    progress.history.append(metrics)
    progress.step, progress.loss_sums, progress.epoch_seconds = 0, {}, 0.0
    improved = progress.is_best(metrics)
    progress.best_accuracy = max(progress.best_accuracy, float(metrics.get(METRIC, progress.best_accuracy)))
    first = distributed.rank() == 0
    # best.pt first: the checkpoint knows the best accuracy, so a resumed training would not write best.pt again.
    if first and improved:
        state.save_best(trainer, directory / BEST, metrics)
    elif first and progress.best_accuracy >= 0:
        state.check_best(directory)  # before this epoch is known: a training does not end without it
    state.save(trainer, directory / CHECKPOINT)
    calibrate(trainer, directory)
    if first:
        write_metrics(directory, progress)
    distributed.barrier()
    return EpochResult(progress.epoch, metrics)


def _note_trainers(directory: Path, progress: Progress, trainers: list[dict[str, Any]]) -> None:
    """Append to hosts.json: {"epoch": the current one, "step": steps done, "workers": [{"rank", "host", "device"}]}."""
    path = directory / HOSTS
    earlier = json.loads(path.read_text()) if progress.epoch + progress.step and path.is_file() else []
    write_json(path, [*earlier, {"epoch": progress.epoch + 1, "step": progress.step, "workers": trainers}])


def open_log(trainer: Trainer, directory: Path, stack: contextlib.ExitStack, root: Path | None) -> Loggers:
    """Open the loggers of a training; `stack` closes them."""
    from nmt.training.loggers.chosen import open_loggers

    log = open_loggers(trainer.config, directory, root=root, history=trainer.progress.history)
    stack.callback(log.close)
    return log


def log_epoch(trainer: Trainer, log: Loggers, report: EpochResult) -> None:
    """Log the epoch's metrics, and a picture of matched pairs if it is the best so far."""
    log.scalars({k: v for k, v in report.metrics.items() if k != "epoch"}, report.epoch)
    if METRIC in report.metrics and float(report.metrics[METRIC]) >= trainer.progress.best_accuracy:
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


def _log_picture(trainer: Trainer, log: Loggers, epoch: int) -> None:
    from nmt.inference.pictures import draw_sheet
    from nmt.inference.sample import pair_names, sample_pairs

    pairs = sample_pairs(trainer.evaluated, trainer.store, trainer.features, trainer.config, split="val", count=6)
    names = "; ".join(pair_names(trainer.store, trainer.config, split="val", count=6))
    log.picture("val/matches", draw_sheet(pairs, side=160), epoch, names)
