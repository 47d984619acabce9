"""Parts of one training and its step: model, data, optimizer, validation and checkpoint. nmt.training.loop runs it."""

from __future__ import annotations

import dataclasses
import math
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nmt import checkpoint, distributed
from nmt.batch import PairBatch
from nmt.config import Config, DecodeConfig, comparable, differences, from_dict, to_dict, to_flat
from nmt.data.store.features import open_features
from nmt.data.store.objects import ObjectStore
from nmt.data.stream.loader import train_batches
from nmt.data.stream.pairs import PairStream, eval_batches
from nmt.decoding import best_decoding, decodings_of, model_score, similarities, sweep, timed
from nmt.device import autocast, pick_device
from nmt.errors import FailedError, UserError
from nmt.io.files import remove_partials, write_json
from nmt.losses import loss_terms, total_loss
from nmt.metrics import Counts
from nmt.model.build import build_matcher
from nmt.training.files import CHECKPOINT, CONFIG
from nmt.training.history import Progress, write_metrics

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
        UserError: a wrong configuration, missing data or weights.
    """

    def __init__(self, config: Config, *, data: Path, device: torch.device | None = None) -> None:
        self.config = config
        self.device = device or pick_device()
        self.autocast = autocast(config.train.precision, self.device)
        self.store = ObjectStore.open(data)
        in_features = config.data.mode == "features"
        self.features = open_features(data, config) if in_features else None
        self._check_pairs_for_all()
        self.stream = PairStream(self.store, config.data, split="train", seed=config.train.seed, features=self.features)
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
        for parts in self._batches():
            for name, value in self.train_step([part.to(self.device) for part in parts]).items():
                sums[name] = sums.get(name, 0.0) + value
            progress.step += 1
            progress.epoch_seconds = already + time.perf_counter() - started
            if progress.step % (1 if self.device.type == "cpu" else SYNC_STEPS) == 0:
                self._check_finite(sums)
            on_step(progress.step)
        self._check_finite(sums)
        return {name: total / progress.step for name, total in self._loss_sums().items()}

    def set_learning_rate(self) -> None:
        """Set the learning rate of the current epoch."""
        optim = self.config.optim
        factor = learning_rate_factor(self.progress.epoch, optim.milestones, optim.gamma)
        for group in self.optimizer.param_groups:
            group["lr"] = optim.lr * group["scale"] * factor

    def _loss_sums(self) -> dict[str, float]:
        """Return the epoch's loss sums so far over all ranks."""
        sums = self.progress.loss_sums
        if not sums:
            return {}
        totals = distributed.sum_over_ranks(torch.stack([torch.as_tensor(value).double() for value in sums.values()]))
        return dict(zip(sums, totals.tolist(), strict=True))

    def _batches(self) -> Iterator[list[PairBatch]]:
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

    def evaluate(self, decode_grid: Sequence[DecodeConfig]) -> dict[str, float | int | str]:
        """Evaluate on the validation pairs; every rank gets the same metrics.

        Args:
            decode_grid: decodings to try besides the configured one.

        Returns:
            Metrics: see `val_metrics`, and "inference_seconds" (median seconds per pair, mean over ranks).
        """
        self.model.eval()
        taken: list[float] = []
        score = timed(model_score(self.matcher, autocast=self.autocast), taken)
        stored = similarities(score, self.val_batches(), device=self.device)
        decodings = decodings_of(self.config, decode_grid)
        metrics = self.val_metrics(sweep(stored, decodings, num_categories=len(self.store.info.categories)))
        # A rank without evaluation pairs has no time to report; the sum of ranks counts those that have.
        mine = [statistics.median(taken), 1.0] if taken else [0.0, 0.0]
        seconds, ranks = distributed.sum_over_ranks(torch.tensor(mine, dtype=torch.float64)).tolist()
        return metrics | {"inference_seconds": seconds / ranks}

    def val_batches(self) -> Iterator[PairBatch]:
        """Iterate over this rank's share of the fixed validation pairs."""
        return eval_batches(
            self.store,
            self.config.data,
            split="val",
            features=self.features,
            # A head on stored features needs little memory; with a backbone, fewer pairs fill a GPU.
            batch_size=self.config.data.pairs_per_step * (4 if self.features else 1),
            rank=distributed.rank(),
            world_size=distributed.world_size(),
        )

    def val_metrics(self, swept: dict[DecodeConfig, Counts]) -> dict[str, float | int | str]:
        """Turn the counts of a sweep into metrics.

        Args:
            swept: decoding -> counts; the configured decoding must be among them.

        Returns:
            val/accuracy and val/accuracy/CATEGORY at the best decoding, val/accuracy_fixed_decode at the configured
            one, and decode/PARAMETER of the best.
        """
        best = best_decoding(swept)
        per_category = swept[best].accuracy_per_category(self.store.info.categories)
        return {
            "val/accuracy": swept[best].accuracy(),
            **{f"val/accuracy/{name}": value for name, value in per_category.items()},
            "val/accuracy_fixed_decode": swept[self.config.decode].accuracy(),
            **{f"decode/{name}": value for name, value in dataclasses.asdict(best).items()},
        }

    def save(self, path: Path) -> None:
        """Save the whole state for `restore`. Every rank calls it; rank 0 writes."""
        progress = dataclasses.asdict(dataclasses.replace(self.progress, loss_sums=self._loss_sums()))
        if distributed.rank() == 0:
            checkpoint.save(
                path,
                {
                    **self._weights(),
                    "optimizer": self.optimizer.state_dict(),
                    "progress": progress,
                },
            )

    def save_best(self, path: Path, metrics: dict[str, Any]) -> None:
        """Save the weights alone, for evaluation, with the best decoding in the configuration."""
        decode = {name: metrics[f"decode/{name}"] for name in dataclasses.asdict(self.config.decode)}
        config = {**to_dict(self.config), "decode": decode}
        checkpoint.save(path, {**self._weights(), "config": config, "epoch": metrics["epoch"], "metrics": metrics})

    def _weights(self) -> dict[str, Any]:
        """Return weights, configuration and categories; the weights of a frozen backbone, which are known, are not."""
        frozen = self.matcher.backbone is not None and self.config.optim.backbone_lr_scale == 0
        # Cloned: a packed training's weights are views of the pack's, and torch.save would write the whole pack's.
        weights = self.matcher.state_dict()
        model = {k: v.clone() for k, v in weights.items() if not (frozen and k.startswith("backbone."))}
        return {"model": model, "config": to_dict(self.config), "categories": list(self.store.info.categories)}

    def begin(self, directory: Path, *, resume: bool) -> None:
        """Prepare a run in `directory`: restore its checkpoint if `resume` is set, and write config.json."""
        state = directory / CHECKPOINT
        if resume and state.is_file():
            self.restore(state)
        if distributed.rank() == 0:
            remove_partials(directory)
            write_json(directory / CONFIG, to_dict(self.config))
            if self.progress.history:  # after a crash between checkpoint and metrics, the file lacks an epoch
                write_metrics(directory, self.progress)

    def restore(self, path: Path) -> None:
        """Restore the state that `save` wrote, with any number of ranks.

        Raises:
            UserError: the checkpoint belongs to another configuration, or cannot be read.
        """
        content = checkpoint.load(path)
        saved = from_dict(content["config"], source=str(path))
        if different := differences(to_flat(comparable(saved)), to_flat(comparable(self.config))):
            raise UserError(
                f"{path}: a checkpoint of another configuration: {different}; "
                f"choose another --results or the same settings"
            )
        self.matcher.load_state_dict(content["model"], strict=self.config.optim.backbone_lr_scale > 0)
        self.optimizer.load_state_dict(content["optimizer"])
        self.progress = Progress(**content["progress"])
        if distributed.rank() > 0:  # the file holds the sums over all ranks; rank 0 continues them
            self.progress.loss_sums = dict.fromkeys(self.progress.loss_sums, 0.0)
