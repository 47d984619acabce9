"""Training loop: the published recipe on images or on stored features, resumable at the exact step.

`train` decides when to evaluate, checkpoint and report; `trainer.Trainer` holds the parts and the step. Checkpoints
are copied, and written while the next steps run. Callers follow a training through the hooks `on_epoch` and
`on_checkpoint` alone. Every rank calls them once the checkpoint is on disk, so an exception raised in one stops the
training with the loss of those steps alone.
"""

from __future__ import annotations

import contextlib
import functools
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
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
from nmt.training.wishes import Wishes
from nmt.training.writer import Writer

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
        on_epoch: hook that every rank calls once each epoch's checkpoint is written; the next epoch has begun by then.
        on_checkpoint: hook that every rank calls after each checkpoint within an epoch, unless the training then stops.
        resume: continue from checkpoint.pt if there is one; see nmt.training.state.begin for damaged files.
        until: last epoch of this call, 1 = the first. Its schedule is that of all epochs; `resume` continues it.
        decode_grid: decodings to try on the validation similarities; `val/accuracy` is the best of them.
        progress, val_f1: show a progress bar on standard error; also measure val/f1 after each epoch.
        device: device to train on; by default this rank's, see nmt.device.pick_device.
        interrupted: called after each step, or every few where there are several ranks (nmt.training.wishes); when
            True on any rank, all save and stop. By default after SIGNALS.
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
    _note_trainers(directory, trainer)
    last = min(until or config.train.epochs, config.train.epochs)
    run = _Run(trainer, directory, decode_grid, last, on_epoch, on_checkpoint)
    with contextlib.ExitStack() as stack:
        run.open(stack, root=root, progress=progress, interrupted=interrupted)
        while trainer.progress.epoch < last:
            run.epoch()
    return trainer.progress.best()


@dataclass
class _Run:
    """A call of `train`: the training, its files, its hooks."""

    trainer: Trainer
    directory: Path
    decode_grid: Sequence[DecodeConfig]
    last: int
    """last epoch"""
    on_epoch: Callable[[EpochResult], None] | None
    on_checkpoint: Callable[[], None] | None
    writer: Writer = field(default_factory=Writer)
    log: Loggers | None = None
    """on rank 0"""
    interrupted: Callable[[], bool] = field(init=False)
    bar: Any = field(init=False)

    def open(
        self,
        stack: contextlib.ExitStack,
        *,
        root: Path | None,
        progress: bool,
        interrupted: Callable[[], bool] | None,
    ) -> None:
        """Open the loggers, the progress bar and the rest; `stack` closes all, and ends processes and threads."""
        first = distributed.rank() == 0
        stack.callback(self.trainer.loader.close)
        stack.callback(self.writer.close)
        self.log = open_log(self.trainer, self.directory, stack, root) if first else None
        self.interrupted = interrupted or stack.enter_context(interruptions())
        self.bar = stack.enter_context(_progress_bar(self.trainer, shown=progress and first))

    def epoch(self) -> None:
        """Train the rest of the current epoch, evaluate, and begin to write its files.

        The epoch is reported once its files are written: in the next one, for its steps do not wait.
        """
        trainer, progress = self.trainer, self.trainer.progress
        try:
            losses = trainer.train_epoch(on_step=self._saving())
            evaluation_started = time.perf_counter()
            metrics = validate(trainer, self.decode_grid)
        except Exception:
            if distributed.world_size() == 1:  # several ranks may have failed at different steps, and would not meet
                self.writer.finish()  # whatever ended this epoch, the one before is reported
            raise
        progress.seconds += progress.epoch_seconds + time.perf_counter() - evaluation_started
        self.writer.finish()
        report, write = finish_epoch(trainer, self.directory, losses, metrics)
        picture = draw_best(trainer, report) if self.log is not None else None
        self.writer.start(write, lambda: self._report(report, picture))
        val = f", val {metrics[METRIC]:.1%}" if METRIC in metrics else ""
        self.bar.set_postfix_str(f"epoch {report.epoch}: loss {losses['loss']:.3f}{val}")
        if report.epoch == self.last:
            self.writer.finish()

    def _saving(self) -> Callable[[int], None]:
        """Make the hook of an epoch's steps: report what is written, save when it is time, save and stop if asked."""
        steps = Wishes(last=self.trainer.config.train.steps_per_epoch)
        last_saved = time.monotonic()

        def wishes() -> tuple[int, int]:
            due = time.monotonic() - last_saved > CHECKPOINT_SECONDS
            return 2 if self.interrupted() else 1 if due else 0, int(self.writer.done)

        def on_step(step: int) -> None:
            nonlocal last_saved
            self.bar.update(1)
            # Saving sums over the ranks, and hooks may wait for them, so all ranks do it at the same step.
            agreed = steps.agreed(step, wishes)
            if agreed is None or not any(agreed):
                return
            self.writer.finish()
            if agreed[0]:
                self._save(stop=agreed[0] == 2)
                last_saved = time.monotonic()

        return on_step

    def _save(self, *, stop: bool) -> None:
        """Save the state at this step; raise KeyboardInterrupt after that if the training is to stop."""
        content = state.snapshot(self.trainer)
        write = None if content is None else functools.partial(state.write, content, self.directory / CHECKPOINT)
        self.writer.start(write, lambda: None if stop else self._saved())
        if stop:
            self.writer.finish()
            raise KeyboardInterrupt

    def _saved(self) -> None:
        distributed.barrier()  # the other ranks have not waited for the files
        if self.on_checkpoint is not None:
            self.on_checkpoint()

    def _report(self, report: EpochResult, picture: Picture | None) -> None:
        distributed.barrier()
        if self.log is not None:
            log_epoch(self.log, report, picture)
        if self.on_epoch is not None:
            self.on_epoch(report)


def finish_epoch(
    trainer: Trainer, directory: Path, losses: Mapping[str, float], metrics: dict[str, float | int | str]
) -> tuple[EpochResult, Callable[[], None] | None]:
    """Complete the current epoch: add it to the history, and copy what its files will hold. Every rank calls it.

    Args:
        trainer: the training.
        directory: where to write.
        losses: mean of each loss term over the epoch.
        metrics: result of the evaluation.

    Returns:
        The report, and on rank 0 a function that writes best.pt (if it is the best), checkpoint and metrics, whatever
        the training does meanwhile. After the last epoch of all, only the metrics are left for it.
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
    report, content = EpochResult(progress.epoch, metrics), state.snapshot(trainer)
    best, final = metrics if improved else None, progress.epoch == config.train.epochs

    def write() -> None:
        assert content is not None
        if not final:
            _write_state(content, directory, best)
        write_metrics(directory, Progress(**content["progress"]))

    if final:  # best.pt is complete before the metrics say that the training is
        if content is not None:
            _write_state(content, directory, best)
        calibrate(trainer, directory)
    return report, None if content is None else write


def _write_state(content: dict[str, Any], directory: Path, best: dict[str, Any] | None) -> None:
    """Write a state's checkpoint, and its weights to best.pt if `best` has the metrics of the best epoch.

    best.pt first: the checkpoint knows the best accuracy, so a resumed training would not write best.pt again.
    """
    if best is not None:
        state.write_best(directory / BEST, content, best)
    elif content["progress"]["best_accuracy"] >= 0:
        state.check_best(directory)  # before this epoch is known: a training does not end without it
    state.write(content, directory / CHECKPOINT)


def _note_trainers(directory: Path, trainer: Trainer) -> None:
    """Append to hosts.json, in a process group: {"epoch": current, "step": steps done, "workers": [{"rank", ...}]}."""
    workers, progress = distributed.trainers(trainer.device), trainer.progress
    if not workers or distributed.rank() > 0:
        return
    path = directory / HOSTS
    earlier = json.loads(path.read_text()) if progress.epoch + progress.step and path.is_file() else []
    write_json(path, [*earlier, {"epoch": progress.epoch + 1, "step": progress.step, "workers": workers}])


def open_log(trainer: Trainer, directory: Path, stack: contextlib.ExitStack, root: Path | None) -> Loggers:
    """Open the loggers of a training; `stack` closes them."""
    from nmt.training.loggers.chosen import open_loggers

    log = open_loggers(trainer.config, directory, root=root, history=trainer.progress.history)
    stack.callback(log.close)
    return log


def log_epoch(log: Loggers, report: EpochResult, picture: Picture | None) -> None:
    """Log the metrics of an epoch, and the picture of its matched pairs if there is one."""
    log.scalars({k: v for k, v in report.metrics.items() if k != "epoch"}, report.epoch)
    if picture is not None:
        log.picture("val/matches", picture.image_HW3, report.epoch, picture.caption)


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


@dataclass(frozen=True)
class Picture:
    """Matched pairs."""

    image_HW3: np.ndarray
    """uint8"""
    caption: str
    """names of the pairs"""


def draw_best(trainer: Trainer, report: EpochResult) -> Picture | None:
    """Draw matched pairs with the weights of the epoch that has just ended, if it is the best so far."""
    if METRIC not in report.metrics or float(report.metrics[METRIC]) < trainer.progress.best_accuracy:
        return None
    from nmt.inference.pictures import draw_sheet
    from nmt.inference.sample import pair_names, sample_pairs

    pairs = sample_pairs(trainer.evaluated, trainer.store, trainer.features, trainer.config, split="val", count=6)
    names = "; ".join(pair_names(trainer.store, trainer.config, split="val", count=6))
    return Picture(draw_sheet(pairs, side=160), names)
