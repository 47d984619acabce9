"""Parts of one training and its step: model, data and optimizer.

`nmt.training.loop` runs it, `nmt.training.validation` evaluates it, and `nmt.training.state` saves and restores it.
"""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from nmt import distributed
from nmt.batch import PairBatch
from nmt.config import Config
from nmt.data.store.features import open_features
from nmt.data.store.objects import ObjectStore
from nmt.data.store.ready import check_pairs
from nmt.data.stream.loader import Steps, TrainLoader
from nmt.data.stream.mean_keypoints import mean_keypoints
from nmt.data.stream.pairs import PairStream
from nmt.device import autocast, pick_device
from nmt.errors import FailedError, UserError
from nmt.losses import step_loss
from nmt.model.build import build_matcher
from nmt.model.matcher import Matcher
from nmt.training.average import WeightAverage
from nmt.training.history import Progress
from nmt.training.optimizer import build_optimizer
from nmt.training.schedule import learning_rate_factor

MAX_LOADERS = 8
"""most loader processes per rank in images mode; fewer on fewer cores"""

SYNC_STEPS = 50
"""steps between checks of the loss on a GPU: reading it waits for all work queued there"""


class DivergedError(FailedError):
    """A training whose loss is no longer finite."""


class Trainer:
    """Model, data, optimizer and progress of one training, and its step.

    Args:
        config: the whole configuration.
        data: folder of the Arrow data set.
        device: device to train on; by default this rank's.
        val_f1: each validation also measures val/f1.

    Raises:
        UserError: a wrong configuration, missing data or weights, or no pairs in train or val.
    """

    def __init__(self, config: Config, *, data: Path, device: torch.device | None = None, val_f1: bool = False) -> None:
        self.config = config
        self.device = device or pick_device()
        self.autocast = autocast(config.train.precision, self.device)
        self.store = ObjectStore.open(data)
        in_features = config.data.mode == "features"
        self.features = open_features(data, config) if in_features else None
        check_pairs(self.store)
        self._check_pairs_for_all()
        split, seed, streamed = config.data.train_split, config.train.seed, config.data
        if config.train.compile:
            from nmt.training.compiled import CompiledStep, static_shapes  # loads torch's compiler, which takes seconds

            streamed = static_shapes(config.data, self.store.info)
        begin = config.outliers_from
        self.stream = PairStream(
            self.store, streamed, split=split, seed=seed, features=self.features, outliers_from=begin
        )
        self.loader = self._loader()
        self.mean_keypoints = mean_keypoints(self.stream.sampler) if config.loss.reduction == "keypoints" else None
        """mean number of keypoints of a training pair; None where the loss does not read it"""
        self.matcher = self.build_matcher()
        self.optimizer = build_optimizer(self.matcher, config)
        self.average = WeightAverage(self.matcher, config.train.ema) if config.train.ema else None
        self.loss = step_loss(config, self.mean_keypoints)
        self.compiled = CompiledStep(self.matcher, self.loss) if config.train.compile else None
        """compiled parts of a step, in place of the matcher's and the loss"""
        compression = config.train.gradient_compression
        self.model = distributed.data_parallel(self.matcher, self.device, compression=compression)
        self.progress = Progress()
        self.measures_f1 = val_f1

    def build_matcher(self) -> Matcher:
        """Build the matcher to train, on the device."""
        config = self.config
        return build_matcher(
            config.model, image_size=config.data.image_size, features=self.features, seed=config.train.seed
        ).to(self.device)

    @property
    def evaluated(self) -> Matcher:
        """Matcher to evaluate and to keep: the average of the weights if there is one, else the one that trains."""
        return self.matcher if self.average is None else self.average.matcher

    def _check_pairs_for_all(self) -> None:
        size, workers = self.config.data.pairs_per_step, distributed.world_size()
        if size < workers:
            raise UserError(f"data.pairs_per_step = {size} leaves some of {workers} workers without a pair")

    def _loader(self) -> TrainLoader:
        steps = Steps(
            stream=self.stream,
            steps_per_epoch=self.config.train.steps_per_epoch,
            pairs_per_step=self.config.data.pairs_per_step,
            rank=distributed.rank(),
            world_size=distributed.world_size(),
            micro_batch=self.config.train.micro_batch,
        )
        processes = min(MAX_LOADERS, max(1, len(os.sched_getaffinity(0)) - 1))
        return TrainLoader(steps, epochs=self.config.train.epochs, processes=processes)

    def train_epoch(self, *, on_step: Callable[[int], None]) -> dict[str, float]:
        """Train the rest of the current epoch.

        Args:
            on_step: hook called on every rank after every step. If it saves or raises, it must do so on all ranks at
                the same step (`distributed.largest`).

        Returns:
            "loss" and each loss term -> mean over the epoch's steps, over all ranks.

        Raises:
            DivergedError: the loss is no longer finite.
        """
        progress = self.progress
        self.model.train()
        sums = {name: torch.as_tensor(value, device=self.device) for name, value in progress.loss_sums.items()}
        # The sums stay tensors on the device while training: a float per step would wait for the GPU. `save` converts.
        progress.loss_sums = sums  # type: ignore[assignment]
        started = time.perf_counter()
        for parts in self.batches():
            for name, value in self.train_step([part.to(self.device) for part in parts]).items():
                sums[name] = sums.get(name, 0.0) + value
            progress.step += 1
            progress.epoch_seconds += time.perf_counter() - started
            if progress.step % (1 if self.device.type == "cpu" else SYNC_STEPS) == 0:
                self._check_finite(sums)
            on_step(progress.step)
            started = time.perf_counter()  # what the hook does is no training
        self._check_finite(sums)
        return {name: total / progress.step for name, total in self.loss_sums().items()}

    @property
    def steps_taken(self) -> int:
        """Optimizer steps since the start of the training."""
        return self.progress.epoch * self.config.train.steps_per_epoch + self.progress.step

    def set_learning_rate(self) -> None:
        """Set the learning rate of the next step."""
        factor = learning_rate_factor(self.config, self.steps_taken)
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.optim.lr * group["scale"] * factor

    def loss_sums(self) -> dict[str, float]:
        """Return the epoch's loss sums so far over all ranks."""
        sums = self.progress.loss_sums
        if not sums:
            return {}
        totals = distributed.sum_over_ranks(torch.stack([torch.as_tensor(value).double() for value in sums.values()]))
        return dict(zip(sums, totals.tolist(), strict=True))

    def batches(self) -> Iterator[list[PairBatch]]:
        """Yield this rank's batches of the rest of the current epoch, each in parts of at most `train.micro_batch`."""
        return self.loader.epoch(self.progress.epoch, self.progress.step)

    def train_step(self, parts: Sequence[PairBatch]) -> dict[str, Tensor]:
        """Take one optimizer step: forward and backward of each part, clip, update, return weights to the sphere.

        Args:
            parts: this rank's pairs of the step, in parts of at most `train.micro_batch`.

        Returns:
            This rank's share of the loss and of each term. The loss is the mean over the pairs of all parts and ranks.
        """
        shares: dict[str, Tensor] = {}
        for number, part in enumerate(parts, start=1):
            with distributed.gradients(self.model, averaged=number == len(parts)), self._computing():
                for name, value in self._backward(part).items():
                    shares[name] = shares[name] + value if name in shares else value
        self.update()
        self.matcher.head.enforce_constraints()
        self.update_average()
        return shares

    def update(self) -> None:
        """Clip the gradients if configured, update the weights at the step's rate, and delete the gradients."""
        if self.config.optim.clip_norm:
            torch.nn.utils.clip_grad_norm_(self.matcher.parameters(), self.config.optim.clip_norm)
        self.set_learning_rate()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def update_average(self) -> None:
        """Add the weights to their average, if there is one, before the step is counted."""
        if self.average is not None:
            self.average.update(self.matcher, self.steps_taken)

    def _computing(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext() if self.compiled is None else self.compiled.computing()

    def _backward(self, part: PairBatch) -> dict[str, Tensor]:
        """Add the part's gradient; return its share of the loss and of its terms, detached."""
        config = self.config
        with self.autocast:
            output = self.model(part)
        terms, loss = (self.compiled or self).loss(output, part.match_BN)
        share = part.num_pairs / config.data.pairs_per_step
        # Gradients are averaged over the ranks, so each rank's loss is multiplied by their number to get the sum.
        (loss * (share * distributed.world_size())).backward()
        values = {"loss": loss, **{f"loss/{name}": value.mean() for name, value in terms.items()}}
        return {name: value.detach() * share for name, value in values.items()}

    def _check_finite(self, sums: dict[str, Tensor]) -> None:
        if not math.isfinite(float(sums["loss"])):
            raise self.diverged()

    def diverged(self) -> DivergedError:
        """Make the error of a training whose loss has just become infinite or NaN."""
        return DivergedError(
            f"the loss is no longer finite (epoch {self.progress.epoch + 1}, step {self.progress.step}): "
            f"lower optim.lr (now {self.config.optim.lr:g}) or set optim.clip_norm"
        )
