"""Parts of one training and its step: model, data and optimizer.

`nmt.training.loop` runs it, `nmt.training.validation` evaluates it, and `nmt.training.state` saves and restores it.
"""

from __future__ import annotations

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
from nmt.data.stream.loader import train_batches
from nmt.data.stream.pairs import PairStream
from nmt.device import autocast, pick_device
from nmt.errors import FailedError, UserError
from nmt.losses import loss_terms, total_loss
from nmt.model.build import build_matcher
from nmt.training.history import Progress

MAX_LOADERS = 8
"""most loader processes per rank in images mode; fewer on fewer cores"""

SYNC_STEPS = 50
"""steps between checks of the loss on a GPU: reading it waits for all work queued there"""


class DivergedError(FailedError):
    """A training whose loss is no longer finite."""


def learning_rate_factor(epoch: int, milestones: Sequence[int], gamma: float) -> float:
    """Compute the learning rate's factor in an epoch: gamma to the power of the milestones reached.

    Args:
        epoch: completed epochs, 0 = the first epoch.
        milestones: numbers of completed epochs after which the rate drops.
        gamma: factor per milestone.
    """
    return gamma ** sum(epoch >= milestone for milestone in milestones)


class Trainer:
    """Model, data, optimizer and progress of one training, and its step.

    Args:
        config: the whole configuration.
        data: folder of the Arrow data set.
        device: device to train on; by default this rank's.

    Raises:
        UserError: a wrong configuration, missing data or weights, or no pairs in train or val.
    """

    def __init__(self, config: Config, *, data: Path, device: torch.device | None = None) -> None:
        self.config = config
        self.device = device or pick_device()
        self.autocast = autocast(config.train.precision, self.device)
        self.store = ObjectStore.open(data)
        in_features = config.data.mode == "features"
        self.features = open_features(data, config) if in_features else None
        check_pairs(self.store)
        self._check_pairs_for_all()
        split, seed = config.data.train_split, config.train.seed
        self.stream = PairStream(self.store, config.data, split=split, seed=seed, features=self.features)
        self.matcher = build_matcher(
            config.model, image_size=config.data.image_size, features=self.features, seed=config.train.seed
        ).to(self.device)
        self.optimizer = self._build_optimizer()
        if config.train.compile:
            self.matcher.head.compile()
        self.model = distributed.data_parallel(self.matcher, self.device)
        self.progress = Progress()

    def _check_pairs_for_all(self) -> None:
        size, workers = self.config.data.pairs_per_step, distributed.world_size()
        if size < workers:
            raise UserError(f"data.pairs_per_step = {size} leaves some of {workers} workers without a pair")

    def _build_optimizer(self) -> torch.optim.Optimizer:
        config = self.config.optim
        groups = [{"params": list(self.matcher.head.parameters()), "scale": 1.0}]
        if self.matcher.backbone is not None:
            # Without gradients, a frozen backbone has no backward pass and keeps no activations.
            self.matcher.backbone.requires_grad_(config.backbone_lr_scale > 0)
            if config.backbone_lr_scale > 0:
                groups.append({"params": list(self.matcher.backbone.parameters()), "scale": config.backbone_lr_scale})
        # Without weight decay, as published, AdamW is Adam. Fused: one kernel for all parameters instead of many.
        return torch.optim.AdamW(groups, lr=config.lr, weight_decay=config.weight_decay, fused=True)

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
        self.set_learning_rate()
        self.model.train()
        sums = {name: torch.as_tensor(value, device=self.device) for name, value in progress.loss_sums.items()}
        # The sums stay tensors on the device while training: a float per step would wait for the GPU. `save` converts.
        progress.loss_sums = sums  # type: ignore[assignment]
        started, already = time.perf_counter(), progress.epoch_seconds
        for parts in self.batches():
            for name, value in self.train_step([part.to(self.device) for part in parts]).items():
                sums[name] = sums.get(name, 0.0) + value
            progress.step += 1
            progress.epoch_seconds = already + time.perf_counter() - started
            if progress.step % (1 if self.device.type == "cpu" else SYNC_STEPS) == 0:
                self._check_finite(sums)
            on_step(progress.step)
        self._check_finite(sums)
        return {name: total / progress.step for name, total in self.loss_sums().items()}

    def set_learning_rate(self) -> None:
        """Set the learning rate of the current epoch."""
        optim = self.config.optim
        factor = learning_rate_factor(self.progress.epoch, optim.milestones, optim.gamma)
        for group in self.optimizer.param_groups:
            group["lr"] = optim.lr * group["scale"] * factor

    def loss_sums(self) -> dict[str, float]:
        """Return the epoch's loss sums so far over all ranks."""
        sums = self.progress.loss_sums
        if not sums:
            return {}
        totals = distributed.sum_over_ranks(torch.stack([torch.as_tensor(value).double() for value in sums.values()]))
        return dict(zip(sums, totals.tolist(), strict=True))

    def batches(self) -> Iterator[list[PairBatch]]:
        """Yield this rank's batches of the rest of the current epoch, each in parts of at most `train.micro_batch`."""
        config, progress = self.config, self.progress
        return train_batches(
            self.stream,
            epoch=progress.epoch,
            first_step=progress.step,
            num_steps=config.train.steps_per_epoch - progress.step,
            pairs_per_step=config.data.pairs_per_step,
            rank=distributed.rank(),
            world_size=distributed.world_size(),
            micro_batch=config.train.micro_batch,
            loader_processes=min(MAX_LOADERS, max(1, len(os.sched_getaffinity(0)) - 1)),
        )

    def train_step(self, parts: Sequence[PairBatch]) -> dict[str, Tensor]:
        """Take one optimizer step: forward and backward of each part, clip, update, return weights to the sphere.

        Args:
            parts: this rank's pairs of the step, in parts of at most `train.micro_batch`.

        Returns:
            This rank's share of the loss and of each term. The loss is the mean over the pairs of all parts and ranks.
        """
        shares: dict[str, Tensor] = {}
        for number, part in enumerate(parts, start=1):
            with distributed.gradients(self.model, averaged=number == len(parts)):
                for name, value in self._backward(part).items():
                    shares[name] = shares[name] + value if name in shares else value
        self.update()
        self.matcher.head.enforce_constraints()
        return shares

    def update(self) -> None:
        """Clip the gradients if configured, update the weights, and delete the gradients."""
        if self.config.optim.clip_norm:
            torch.nn.utils.clip_grad_norm_(self.matcher.parameters(), self.config.optim.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def _backward(self, part: PairBatch) -> dict[str, Tensor]:
        """Add the part's gradient; return its share of the loss and of its terms, detached."""
        config = self.config
        with self.autocast:
            output = self.model(part)
        terms = loss_terms(output, part.match_BN, config.loss, config.decode)
        loss = total_loss(terms, config.loss)
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
