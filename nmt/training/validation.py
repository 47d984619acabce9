"""Validation of a training at the end of an epoch."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Iterator, Sequence

import torch

from nmt import distributed
from nmt.batch import PairBatch
from nmt.calibration import f1_on_val
from nmt.config import DecodeConfig
from nmt.data.stream.pair import Pair
from nmt.data.stream.pairs import eval_batches, eval_pairs
from nmt.decoding import best_decoding, decodings_of, model_score, similarities, sweep_grid, timed
from nmt.metrics import Counts
from nmt.seen_objects import SeenObjects, encoder, pairs_in_memory
from nmt.training.history import F1_METRIC
from nmt.training.trainer import Trainer


def validate(trainer: Trainer, decode_grid: Sequence[DecodeConfig]) -> dict[str, float | int | str]:
    """Evaluate on the validation pairs; every rank gets the same metrics.

    Args:
        trainer: the training.
        decode_grid: decodings to try besides the configured one.

    Returns:
        Metrics: see `val_metrics`, and "inference_seconds" (median seconds per pair, mean over ranks; on images with
        twice the median seconds of an object). "val/f1" where the training measures it. None where val is trained on
        (`data.train_split`).
    """
    if not trainer.config.data.validates:
        return {}
    trainer.model.eval()
    taken: list[float] = []
    score = timed(model_score(trainer.evaluated, autocast=trainer.autocast), taken)
    objects: SeenObjects | None = None
    if trainer.features is None:
        pairs = _val_pairs(trainer)
        objects = seen_objects(trainer, pairs)
        batches = objects.batches(pairs)
    else:
        batches = val_batches(trainer)
    stored = similarities(score, batches, device=trainer.device)
    decodings = decodings_of(trainer.config, decode_grid)
    num = len(trainer.store.info.categories)
    published = [trainer.config.decode]
    swept = sweep_grid(stored, decodings, published=published, num_categories=num, device=trainer.device)
    metrics = val_metrics(trainer, swept)
    # A rank without evaluation pairs has no time to report; the sum of ranks counts those that have.
    # A pair by itself has two images to read, however often its objects come.
    reading = 2 * statistics.median(objects.seconds) if objects and objects.seconds else 0.0
    mine = [statistics.median(taken) + reading, 1.0] if taken else [0.0, 0.0]
    seconds, ranks = distributed.sum_over_ranks(torch.tensor(mine, dtype=torch.float64)).tolist()
    metrics |= {"inference_seconds": seconds / ranks}
    return metrics | {F1_METRIC: _f1(trainer)} if trainer.measures_f1 else metrics


def _f1(trainer: Trainer) -> float:
    """Measure val/f1 on the first rank, on at most a hundred pairs of each outlier protocol; every rank gets it."""
    found = 0.0
    if distributed.rank() == 0:
        found = f1_on_val(
            trainer.evaluated, trainer.store, trainer.config, features=trainer.features, device=trainer.device
        )
    return float(distributed.sum_over_ranks(torch.tensor(found, dtype=torch.float64)))


def val_batches(trainer: Trainer) -> Iterator[PairBatch]:
    """Iterate over this rank's share of the fixed validation pairs, in features mode."""
    return eval_batches(
        trainer.store,
        trainer.config.data,
        split="val",
        features=trainer.features,
        batch_size=eval_batch_size(trainer),
        rank=distributed.rank(),
        world_size=distributed.world_size(),
    )


def _val_pairs(trainer: Trainer) -> list[Pair]:
    """List this rank's share of the fixed validation pairs."""
    whole = eval_pairs(trainer.store, trainer.config.data, split="val")
    return whole[distributed.rank() :: distributed.world_size()]


def seen_objects(trainer: Trainer, pairs: Sequence[Pair]) -> SeenObjects:
    """Make the batches of pairs whose images the evaluated matcher's backbone reads."""
    return SeenObjects(
        encoder(trainer.evaluated, autocast=trainer.autocast),
        trainer.store,
        pairs,
        pairs_at_once=pairs_in_memory(trainer.config),
        device=trainer.device,
        width=trainer.config.data.pad_keypoints,
    )


def eval_batch_size(trainer: Trainer) -> int:
    """Return the pairs of a batch of validation in features mode: the head alone needs little memory."""
    return trainer.config.data.pairs_per_step * 4


def val_metrics(trainer: Trainer, swept: dict[DecodeConfig, Counts]) -> dict[str, float | int | str]:
    """Turn the counts of a sweep into metrics.

    Args:
        trainer: the training.
        swept: decoding -> counts; the configured decoding must be among them.

    Returns:
        val/accuracy and val/accuracy/CATEGORY at the best decoding, val/accuracy_fixed_decode at the configured
        one, and decode/PARAMETER of the best.
    """
    best = best_decoding(swept)
    per_category = swept[best].accuracy_per_category(trainer.store.info.categories)
    return {
        "val/accuracy": swept[best].accuracy(),
        **{f"val/accuracy/{name}": value for name, value in per_category.items()},
        "val/accuracy_fixed_decode": swept[trainer.config.decode].accuracy(),
        # decode.unmatched is never tried: accuracy counts every match.
        **{f"decode/{k}": value for k, value in dataclasses.asdict(best).items() if k != "unmatched"},
    }
