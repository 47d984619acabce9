"""What a training is about to do, and how long it will take: measured before it starts.

The steps are measured on a training of their own, which is thrown away, so the numbers of the real one do not change.
"""

from __future__ import annotations

import contextlib
import itertools
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from nmt.config import Config, DecodeConfig, with_overrides
from nmt.data.store.features import open_features
from nmt.data.store.objects import ObjectStore
from nmt.data.stream.pair import Pair
from nmt.data.stream.pairs import eval_pairs, plain_batch
from nmt.decoding import decodings_of, model_score, similarities, sweep_grid
from nmt.device import pick_device
from nmt.durations import in_words
from nmt.seen_objects import head_pairs
from nmt.training.history import read_metrics
from nmt.training.sizes import Sizes, check_room, in_bytes, training_sizes
from nmt.training.trainer import Trainer
from nmt.training.validation import eval_batch_size, seen_objects

FEWEST_STEPS = 2
"""steps that are timed, after a first one that warms up"""
ENOUGH_SECONDS = 0.5
"""time spent on steps of a training that is about to start"""
TOO_LONG_SECONDS = 10.0
"""time after which a single step is enough"""
LONG_SECONDS = 3 * 3600.0
"""training time from which the plan names ways to shorten it"""
MANY = 20.0
"""drawings of an object in an epoch from which they are named: more steps teach little"""
TINY_STEPS = 12
"""steps of a whole training that is not measured: that would take as long as a part of it"""


@dataclass(frozen=True)
class Pace:
    """Time that an epoch takes."""

    epoch: float
    """one epoch with its validation, seconds"""
    basis: str
    """how it is known, in words"""


@dataclass(frozen=True, kw_only=True)
class TrainingPlan:
    """The size of a training that is about to start. Printed: one or two lines."""

    config: Config
    completed: int
    """epochs that a resumed training has behind it"""
    objects: dict[str, int]
    """split -> number of objects"""
    pace: Pace | None
    """None if it was not measured"""
    device: str
    """cpu or cuda"""
    sizes: Sizes
    """of its files"""

    @property
    def epochs(self) -> int:
        """Epochs left to train."""
        return self.config.train.epochs - self.completed

    @property
    def seconds(self) -> float | None:
        """Estimated time of the epochs that are left, with their validation. None if not measured."""
        return None if self.pace is None else self.epochs * self.pace.epoch

    def __str__(self) -> str:
        train = self.config.train
        if not self.epochs:
            return f"training: all {_count(train.epochs, 'epoch')} are done"
        size = f"{_count(train.steps_per_epoch, 'step')}, {_count(self.config.data.pairs_per_step, 'pair')} each"
        objects = f"{self.objects['train']} train and {self.objects['val']} val objects"
        objects += (
            "" if self.config.data.validates else ", all trained on: no validation, the last epoch's weights count"
        )
        epochs = f"{self.epochs} of {train.epochs} epochs left," if self.completed else _count(train.epochs, "epoch")
        files = f"up to {in_bytes(self.sizes.running)} of files"
        lines = [f"training: {epochs} of {size}; {objects}; {files}"]
        if self.config.data.pairs == "union" and self.config.decode.assignment == "hungarian":
            lines.append(
                "decode.assignment = hungarian loses accuracy where keypoints have no partner, as with data.pairs = "
                "union; argmax does not"
            )
        if self.pace is not None and self.seconds is not None:
            lines.append(f"estimated time: {in_words(self.seconds)} ({self.pace.basis})")
            if self.seconds > LONG_SECONDS:
                lines.append(f"shorter: {shorter(self.config, objects=self.objects['train'], device=self.device)}")
        return "\n".join(lines)


def shorter(config: Config, *, objects: int, device: str) -> str:
    """Return the keys that make a long training shorter, with their values now.

    Args:
        objects: in split train.
        device: cpu or cuda.
    """
    train, data = config.train, config.data
    often = 2 * train.steps_per_epoch * data.pairs_per_step / max(objects, 1)
    drawn = f", which draws each of the {objects} train objects {often:.0f} times an epoch" if often > MANY else ""
    ways = [
        f"--set train.steps_per_epoch=N (now {train.steps_per_epoch}{drawn})",
        f"train.epochs=N (now {train.epochs})",
    ]
    if data.mode == "images":
        ways += [
            f"a smaller model.backbone (now {config.model.backbone})",
            'data.mode=features, a small head on stored features (the recipe "laptop")',
        ]
    else:
        ways += [f"a smaller model.d_model (now {config.model.d_model})"]
    if device == "cpu":
        ways += ["a GPU"]
    return f"{', '.join(ways[:-1])}, or {ways[-1]}"


def plan_training(
    config: Config,
    *,
    data: Path,
    directory: Path,
    resume: bool,
    decode_grid: Sequence[DecodeConfig] = (),
    device: torch.device | None = None,
    timed: bool = True,
) -> TrainingPlan:
    """Return the plan of a training, with the time that its steps and validations take.

    A resumed training is as fast as it was. Otherwise a few steps are timed, which takes about as long as four steps
    and two batches of validation. A compiled model is not timed: its first steps compile. Nor is a tiny training.

    Args:
        directory: folder of the training.
        resume: the training continues from what `directory` holds.
        decode_grid: decodings that each validation tries.
        device: device to train on; by default this process's.
        timed: False where others than this process train.

    Raises:
        UserError: what the first step of the training would raise, or a disk without room for its files.
    """
    features = open_features(data, config) if config.data.mode == "features" else None
    sizes = training_sizes(config, features=features)
    history = read_metrics(directory) if resume else []
    if len(history) < config.train.epochs:  # else nothing more is written
        check_room(directory, sizes)
    counts = ObjectStore.open(data).info.counts
    device = device or pick_device()
    pace = None
    if history:
        ends = [0.0, *(epoch["seconds"] for epoch in history)]
        usual = statistics.median(after - before for before, after in itertools.pairwise(ends))
        pace = Pace(usual, f"{in_words(usual)} an epoch so far")
    elif timed and not config.train.compile and config.train.epochs * config.train.steps_per_epoch >= TINY_STEPS:
        pace = measure(config, data=data, decode_grid=decode_grid, device=device)
    return TrainingPlan(
        config=config,
        completed=len(history),
        objects={split: sum(categories.values()) for split, categories in counts.items()},
        pace=pace,
        device=device.type,
        sizes=sizes,
    )


def measure(
    config: Config,
    *,
    data: Path,
    decode_grid: Sequence[DecodeConfig],
    device: torch.device,
    enough: float = ENOUGH_SECONDS,
) -> Pace:
    """Time a few steps and a part of the validation on a training that is thrown away.

    A step on images on a CPU may take minutes, and its time is that of its pairs. So a single pair is timed there.

    The random state of the process stays as it was. Saving checkpoints and drawing pictures is not included.

    Args:
        enough: seconds after which no further step is timed, once there are FEWEST_STEPS.
    """
    alone = config.data.mode == "images" and device.type == "cpu"
    one_pair = {"data.pairs_per_step": 1, "train.micro_batch": 0}
    timed = with_overrides(config, one_pair, source="the timed steps") if alone else config
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        trainer = Trainer(timed, data=data, device=device)
        trainer.model.train()
        with contextlib.closing(trainer.loader):
            step = statistics.median(_step_times(trainer, enough)) * (config.data.pairs_per_step if alone else 1)
        validation = _validation_seconds(trainer, decode_grid)
    checked = f", {in_words(validation)} a validation" if config.data.validates else ""
    basis = f"measured: {in_words(step)} a step{checked}; saving comes on top"
    return Pace(config.train.steps_per_epoch * step + validation, basis)


def _step_times(trainer: Trainer, enough: float) -> Iterator[float]:
    """Take steps and yield the seconds of each but the first, until there are enough; of a first that is too long."""
    batches = iter(trainer.batches())
    parts, started = next(batches), time.perf_counter()
    trainer.train_step([part.to(trainer.device) for part in parts])
    _wait(trainer.device)
    if (first := time.perf_counter() - started) > TOO_LONG_SECONDS / 2:
        yield first
        return
    for count in itertools.count(1):
        before = time.perf_counter()
        parts = next(batches, parts)  # an epoch of one step has no other batch
        trainer.train_step([part.to(trainer.device) for part in parts])
        _wait(trainer.device)
        now = time.perf_counter()
        yield now - before
        if now - started > (enough if count >= FEWEST_STEPS else TOO_LONG_SECONDS):
            return


def _validation_seconds(trainer: Trainer, decode_grid: Sequence[DecodeConfig]) -> float:
    """Estimate the time of a validation from one batch of it; 0 where val is trained on.

    On images, the time of reading grows with the objects that the pairs show, the rest with the pairs.
    """
    if not trainer.config.data.validates:
        return 0.0
    config, store = trainer.config, trainer.store
    pairs = eval_pairs(store, config.data, split="val")
    few = pairs[: _timed_pairs(trainer)]
    score = model_score(trainer.evaluated, autocast=trainer.autocast)
    decodings, num = decodings_of(config, decode_grid), len(store.info.categories)
    trainer.model.eval()
    for _ in range(2):  # the first warms up
        started = time.perf_counter()
        if trainer.features is None:
            batch = seen_objects(trainer, few).batch(few)
        else:
            batch = plain_batch(store, few, features=trainer.features, width=config.data.pad_keypoints)
        read = time.perf_counter()
        stored = similarities(score, [batch], device=trainer.device)
        sweep_grid(stored, decodings, published=[config.decode], num_categories=num, device=trainer.device)
        ended = time.perf_counter()
        if ended - started > TOO_LONG_SECONDS / 2:
            break
    more = len(pairs) / len(few)
    more_to_read = more if trainer.features is not None else _objects(pairs) / _objects(few)
    return (read - started) * more_to_read + (ended - read) * more


def _timed_pairs(trainer: Trainer) -> int:
    """Return the pairs that a validation is timed on: as many as it takes at once, or fewer on images on a CPU."""
    size = trainer.config.data.pairs_per_step
    if trainer.features is not None:
        return eval_batch_size(trainer)
    return size if trainer.device.type == "cpu" else head_pairs(size, trainer.device)


def _objects(pairs: Sequence[Pair]) -> int:
    """Count the objects that pairs show."""
    return len({row for pair in pairs for row in (pair.row0, pair.row1)})


def _wait(device: torch.device) -> None:
    """Wait for the work that was queued on a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"
