"""Packed training: several trainings of equal shape in one process, on the same batches, as one stacked matcher.

Heads on stored features are small. Much of a step is the overhead of its thousands of operations (about 7,500 for the
`demo` head), which a pack pays once. That helps on a GPU; on two CPU cores, packing gained nothing (0.9 to 1.15 times).

Each member is a `Trainer` of its own whose weights are views of the stack. It computes, reports, saves and resumes as
it would alone. A member that ends, because its loss is no longer finite or its caller stops it, does not affect the
others.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from nmt import distributed
from nmt.batch import PairBatch
from nmt.config import Config, DecodeConfig
from nmt.decoding import decodings_of, similarities, sweep_grid
from nmt.errors import UserError
from nmt.losses import counted_keypoints, keypoint_share, layer_term, layer_weights, matching_loss, output_term
from nmt.metrics import Counts
from nmt.model.matcher import MatchOutput
from nmt.model.packed import PackedMatcher, repeated
from nmt.training import state
from nmt.training.files import CHECKPOINT
from nmt.training.history import EpochResult
from nmt.training.loggers.chosen import Loggers
from nmt.training.loop import CHECKPOINT_SECONDS, draw_best, finish_epoch, log_epoch, open_log
from nmt.training.packable import check_packable
from nmt.training.signals import interruptions
from nmt.training.trainer import SYNC_STEPS, DivergedError, Trainer
from nmt.training.validation import val_batches, val_metrics

TERMS = ("info_nce", "hyperspherical", "layer")


def train_packed(
    configs: Sequence[Config],
    *,
    data: Path,
    directories: Sequence[Path],
    until: int | None = None,
    on_epoch: Callable[[int, EpochResult], bool | None] | None = None,
    on_checkpoint: Callable[[int], None] | None = None,
    resume: bool = False,
    decode_grid: Sequence[DecodeConfig] = (),
    interrupted: Callable[[], bool] | None = None,
    root: Path | None = None,
) -> list[EpochResult | DivergedError]:
    """Run `nmt.training.loop.train` for several configurations at once.

    Every directory receives the files of a training alone, and each way of training can resume from the other's.
    Members resumed at different epochs wait for each other: those behind train first. The metric "seconds" is a
    member's share of the time.

    Args:
        configs: configurations in features mode that differ in `optim.*`, `loss.*` and `decode.*` only.
        data: the Arrow data set.
        directories: one per configuration.
        until: last epoch of this call; by default `train.epochs`.
        on_epoch: hook called with a member's index and report after its checkpoint. Returning False stops this member,
            an exception stops all.
        on_checkpoint: hook called with a member's index after each checkpoint within an epoch.
        resume: continue from each directory's checkpoint.pt if there is one.
        decode_grid, interrupted, root: as for `train`.

    Returns:
        The best epoch of each configuration, or the error that ended it.

    Raises:
        UserError: configurations that do not fit together, missing data, a full disk.
        KeyboardInterrupt: interrupted, after checkpoints at the exact step.
    """
    check_packable(configs)
    if distributed.world_size() > 1:
        raise UserError("packed trials train in one process, without workers")
    if len(set(directories)) != len(configs):
        raise ValueError(f"{len(configs)} trainings need a directory each, but got {len(set(directories))}")
    last = min(until or configs[0].train.epochs, configs[0].train.epochs)
    with contextlib.ExitStack() as stack:
        members = []
        for index, (config, directory) in enumerate(zip(configs, directories, strict=True)):
            trainer = Trainer(config, data=data)
            state.begin(trainer, directory, resume=resume)
            members.append(Member(index, trainer, directory, open_log(trainer, directory, stack, root)))
        interrupted = interrupted or stack.enter_context(interruptions())
        pack: Pack | None = None
        while behind := _behind(members, last):
            if pack is None or pack.members != behind:
                pack = Pack(behind)
            pack = _run_epoch(pack, decode_grid, interrupted, on_epoch, on_checkpoint)
    return [member.failure or member.trainer.progress.best() for member in members]


@dataclass(eq=False)
class Member:
    """One training of a pack."""

    index: int
    """position in the list of configurations"""
    trainer: Trainer
    directory: Path
    log: Loggers
    failure: DivergedError | None = None
    """the error that ended it"""
    ended: bool = False
    """True: its caller stopped it"""

    @property
    def position(self) -> tuple[int, int]:
        """Return (completed epochs, completed steps of the current epoch)."""
        return self.trainer.progress.epoch, self.trainer.progress.step


def _behind(members: Sequence[Member], last: int) -> list[Member]:
    """Return the members to train next: the unfinished ones at the lowest (epoch, step)."""
    open_ones = [m for m in members if not (m.failure or m.ended) and m.position[0] < last]
    at = min((m.position for m in open_ones), default=None)
    return [m for m in open_ones if m.position == at]


class Pack:
    """Members at the same step, as one matcher. When a member leaves, a new pack is made of the others."""

    def __init__(self, members: Sequence[Member]) -> None:
        self.members = list(members)
        self.trainers = [m.trainer for m in members]
        self.first = self.trainers[0]
        self.device = self.first.device
        self.configs = [t.config for t in self.trainers]
        self.matcher = PackedMatcher([t.matcher for t in self.trainers])
        averaged = self.first.average is not None
        self.evaluated = PackedMatcher([t.evaluated for t in self.trainers]) if averaged else self.matcher
        # Loss weights as tensors (K,), because members may differ in them; 0 where a member does not use a term.
        self.weights = {n: torch.tensor([getattr(c.loss, n) for c in self.configs], device=self.device) for n in TERMS}
        known = [t.progress.loss_sums for t in self.trainers]
        names = ["loss", *(f"loss/{term}" for term in TERMS)]
        self.sums = {n: torch.tensor([float(k.get(n, 0.0)) for k in known], device=self.device) for n in names}
        """loss term -> its sum over the steps of the epoch, (K,), one value per member"""

    def start_epoch(self) -> None:
        """Reset the loss sums; call it once the members have completed an epoch."""
        for sums in self.sums.values():
            sums.zero_()

    def train_step(self, batch: PairBatch) -> None:
        """Take one step of every member; see `Trainer.train_step`."""
        pairs = repeated(batch, len(self.members))
        with self.first.autocast:
            output = self.matcher(pairs)
        terms = packed_terms(output, pairs.match_BN, self.configs, [t.mean_keypoints for t in self.trainers])
        means = {name: value.unflatten(0, (len(self.members), -1)).mean(1) for name, value in terms.items()}
        loss_K = torch.stack([self.weights[name] * mean for name, mean in means.items()]).sum(0)
        loss_K.sum().backward()  # each member's parameters act on its own loss only, so the sum mixes no gradients
        self.matcher.share_gradients([t.matcher for t in self.trainers])
        for trainer in self.trainers:
            trainer.update()
        self.matcher.zero_grad()
        self.matcher.head.enforce_constraints()
        for trainer in self.trainers:
            trainer.update_average()
            trainer.progress.step += 1
        for name, value in {"loss": loss_K, **{f"loss/{name}": mean for name, mean in means.items()}}.items():
            self.sums[name] += value.detach()

    def note_sums(self) -> None:
        """Copy to every member the sums of its own loss terms."""
        for k, (trainer, config) in enumerate(zip(self.trainers, self.configs, strict=True)):
            own = ["loss", *(f"loss/{term}" for term in TERMS if getattr(config.loss, term))]
            trainer.progress.loss_sums = {name: float(self.sums[name][k]) for name in own}

    def without_diverged(self) -> Pack | None:
        """Remove the members whose loss is no longer finite, and mark them as failed.

        Returns:
            This pack when all are finite, else a pack of those left; None when none is.
        """
        finite = self.sums["loss"].isfinite().tolist()
        if all(finite):
            return self
        self.note_sums()
        for member, well in zip(self.members, finite, strict=True):
            if not well:
                member.failure = member.trainer.diverged()
        left = [m for m in self.members if m.failure is None]
        return Pack(left) if left else None

    def save(self) -> None:
        """Write every member's checkpoint."""
        self.note_sums()
        for member in self.members:
            state.save(member.trainer, member.directory / CHECKPOINT)

    def evaluate(self, decode_grid: Sequence[DecodeConfig]) -> list[dict[str, float | int | str]]:
        """Evaluate every member as `validate` does, in one pass over the pairs and one sweep."""
        if not self.first.config.data.validates:
            return [{} for _ in self.members]
        num, num_categories = len(self.members), len(self.first.store.info.categories)
        batches = (repeated(b, num, num_categories=num_categories) for b in val_batches(self.first))

        def score(pairs: PairBatch) -> Tensor:
            with self.first.autocast:
                return self.evaluated(pairs).similarity_BNM

        stored = similarities(score, batches, device=self.device)
        own = [decodings_of(config, decode_grid) for config in self.configs]
        # Categories are numbered per member, so one sweep over the union of all decodings counts them all.
        decodings = list(dict.fromkeys(decoding for several in own for decoding in several))
        published = [config.decode for config in self.configs]
        swept = sweep_grid(
            stored, decodings, published=published, num_categories=num * num_categories, device=self.device
        )
        parts = {s: (c.correct_A.view(num, -1), c.total_A.view(num, -1)) for s, c in swept.items()}
        return [
            val_metrics(trainer, {s: Counts(parts[s][0][k], parts[s][1][k]) for s in own[k]})
            for k, trainer in enumerate(self.trainers)
        ]


def packed_terms(
    output: MatchOutput, match_BN: Tensor, configs: Sequence[Config], mean_keypoints: Sequence[float | None]
) -> dict[str, Tensor]:
    """Compute the loss terms of K configurations for K * B pairs.

    Args:
        output: what the packed matcher computed.
        match_BN: true target keypoints of the K * B pairs.
        configs: the K configurations; each gives the parameters of its block of B pairs.
        mean_keypoints: of each configuration, for the loss of keypoints; None where pairs count the same.

    Returns:
        Loss term -> (K * B,), for every term that any configuration uses.
    """
    pairs = len(match_BN) // len(configs)
    losses = [config.loss for config in configs]

    def each(values: Sequence[float]) -> Tensor:
        return torch.tensor(values, device=match_BN.device).repeat_interleave(pairs)

    terms: dict[str, Tensor] = {}
    if any(loss.info_nce for loss in losses):
        terms["info_nce"] = matching_loss(
            output,
            match_BN,
            matching=losses[0].matching,
            temperature=each([loss.temperature for loss in losses])[:, None, None],
            epsilon=each([config.decode.epsilon for config in configs])[:, None, None],
            iterations=configs[0].decode.sinkhorn_iterations,
            unmatched=losses[0].unmatched,
        )
        if any(mean_keypoints):
            counted_B = counted_keypoints(output, match_BN, losses[0].unmatched)
            share = keypoint_share(counted_B, each([mean or 1.0 for mean in mean_keypoints]))
            by_keypoints = each([float(mean is not None) for mean in mean_keypoints]) > 0
            terms["info_nce"] = torch.where(by_keypoints, terms["info_nce"] * share, terms["info_nce"])
    if any(loss.hyperspherical for loss in losses):
        terms["hyperspherical"] = output_term(output)
    if any(loss.layer for loss in losses):
        weights_KL = [layer_weights(len(output.tokens0_LBTD), loss.layer_weighting) for loss in losses]
        terms["layer"] = layer_term(output, [each(weights) for weights in zip(*weights_KL, strict=True)])
    return terms


def _run_epoch(
    pack: Pack,
    decode_grid: Sequence[DecodeConfig],
    interrupted: Callable[[], bool],
    on_epoch: Callable[[int, EpochResult], bool | None] | None,
    on_checkpoint: Callable[[int], None] | None,
) -> Pack | None:
    """Train the rest of the epoch, evaluate and report.

    Returns:
        The pack of the members that did not fail; None when all did.
    """
    trained = train_epoch(pack, interrupted, on_checkpoint)
    if trained is None:
        return None
    pack, started = trained, time.perf_counter()
    evaluated = pack.evaluate(decode_grid)
    share = (time.perf_counter() - started) / len(pack.members)
    pack.note_sums()
    for member, metrics in zip(pack.members, evaluated, strict=True):
        progress = member.trainer.progress
        progress.seconds += progress.epoch_seconds + share
        losses = {name: total / progress.step for name, total in progress.loss_sums.items()}
        report, write = finish_epoch(member.trainer, member.directory, losses, metrics)
        if write is not None:  # at once: a copy of each member's state would take K times the memory
            write()
        log_epoch(member.log, report, draw_best(member.trainer, report))
        if on_epoch is not None:
            member.ended = on_epoch(member.index, report) is False
    pack.start_epoch()
    return pack


def train_epoch(
    pack: Pack, interrupted: Callable[[], bool], on_checkpoint: Callable[[int], None] | None = None
) -> Pack | None:
    """Train to the end of the epoch.

    Returns:
        The pack of the members that did not fail; None when all did.

    Raises:
        KeyboardInterrupt: interrupted, after a checkpoint of every member.
    """
    stream, config, progress = pack.first.stream, pack.first.config, pack.first.progress
    size, num_steps, last_saved = config.data.pairs_per_step, config.train.steps_per_epoch, time.monotonic()
    for step in range(progress.step, num_steps):
        started = time.perf_counter()
        pack.train_step(stream.batch(progress.epoch, range(step * size, (step + 1) * size)).to(pack.device))
        share = (time.perf_counter() - started) / len(pack.members)
        for trainer in pack.trainers:
            trainer.progress.epoch_seconds += share
        if (step + 1) % (1 if pack.device.type == "cpu" else SYNC_STEPS) == 0 or step + 1 == num_steps:
            left = pack.without_diverged()
            if left is None:
                return None
            pack = left
        stop = interrupted()
        if stop or time.monotonic() - last_saved > CHECKPOINT_SECONDS:
            pack.save()
            last_saved = time.monotonic()
            if on_checkpoint is not None and not stop:
                for member in pack.members:
                    on_checkpoint(member.index)
        if stop:
            raise KeyboardInterrupt
    return pack
