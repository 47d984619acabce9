"""Calibration of a matcher at the end of its training.

Five numbers and a threshold are fitted for the weights in best.pt and kept there. Rank 0 alone computes them, on the
same batches however many workers or packed members trained, so all end with the same file.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nmt import checkpoint, distributed
from nmt.calibration import fit_on_val
from nmt.confidence import IN_CHECKPOINT
from nmt.config import from_dict
from nmt.model.matcher import Matcher
from nmt.training.files import BEST
from nmt.training.trainer import Trainer

log = logging.getLogger(__name__)


def calibrate(trainer: Trainer, directory: Path) -> None:
    """Add the calibration to best.pt if the training is complete and best.pt has none. Every rank calls it."""
    if trainer.progress.epoch < trainer.config.train.epochs:
        return
    if distributed.rank() == 0:
        _calibrate(trainer, directory / BEST)
    distributed.barrier()


def _calibrate(trainer: Trainer, path: Path) -> None:
    if not trainer.config.data.validates:
        log.info("%s: no confidences are fitted, for val was trained on (data.train_split)", path)
        return
    content = checkpoint.load(path)
    if IN_CHECKPOINT in content:
        return
    config = from_dict(content["config"], source=str(path))
    with _holding(trainer, content["model"]) as matcher:
        found = fit_on_val(matcher, trainer.store, config, features=trainer.features, device=trainer.device)
    checkpoint.save(path, {**content, IN_CHECKPOINT: None if found is None else found.to_dict()})


@contextlib.contextmanager
def _holding(trainer: Trainer, weights: Mapping[str, Any]) -> Iterator[Matcher]:
    """Lend the matcher that the training evaluates, in evaluation mode and with other weights."""
    matcher = trainer.evaluated
    training, own = matcher.training, {name: value.clone() for name, value in matcher.state_dict().items()}
    frozen = len(weights) < len(own)  # best.pt lacks a frozen backbone's weights, which never change
    matcher.load_state_dict(weights, strict=not frozen)
    try:
        yield matcher.eval()
    finally:
        matcher.load_state_dict(own)
        matcher.train(training)
