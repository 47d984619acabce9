"""Estimate the files of a training before it starts, and refuse what cannot fit on the disk."""

from __future__ import annotations

import contextlib
import itertools
import shutil
from dataclasses import dataclass
from pathlib import Path

from nmt.config import Config
from nmt.errors import UserError
from nmt.model.build import FeatureWidths, build_shapes
from nmt.training.files import BEST, CHECKPOINT, PREVIOUS

_PER_TENSOR = 330
"""bytes that a checkpoint takes for each tensor beside its values, measured"""
_PER_PARAMETER = 3
"""tensors that AdamW keeps for each trained parameter: two moments, and a count of steps"""


@dataclass(frozen=True)
class Sizes:
    """Sizes of the files of one training, bytes."""

    checkpoint: int
    """the state to resume from: weights, their average if there is one, and optimizer"""
    best: int
    """the weights alone"""

    @property
    def running(self) -> int:
        """Most that a training holds at once: its checkpoint, the one before, the next one, and the best weights."""
        return 3 * self.checkpoint + self.best

    @property
    def paused(self) -> int:
        """What is kept of a training that may continue."""
        return 2 * self.checkpoint + self.best


def training_sizes(config: Config, *, features: FeatureWidths | None) -> Sizes:
    """Estimate the files of a training from the shapes of its weights.

    Args:
        features: widths of the stored features; None in images mode.

    Raises:
        UserError: an unknown backbone, or an image size that it cannot take.
    """
    matcher = build_shapes(config.model, image_size=config.data.image_size, features=features)
    frozen = "backbone." if matcher.backbone is not None and config.optim.backbone_lr_scale == 0 else None
    weights = [t for name, t in matcher.state_dict().items() if not (frozen and name.startswith(frozen))]
    trained = [p for name, p in matcher.named_parameters() if not (frozen and name.startswith(frozen))]
    best = sum(tensor.nbytes + _PER_TENSOR for tensor in weights)
    moments = sum(2 * parameter.nbytes + _PER_PARAMETER * _PER_TENSOR for parameter in trained)
    average = best if config.train.ema else 0
    return Sizes(checkpoint=best + moments + average, best=best)


def room(folder: Path) -> int:
    """Return the bytes that the files of trainings in a folder, or below it, may take: free ones, and their own."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    own = 0
    for path in itertools.chain.from_iterable(folder.rglob(name) for name in (CHECKPOINT, PREVIOUS, BEST)):
        with contextlib.suppress(OSError):  # removed meanwhile
            own += path.stat().st_size
    return shutil.disk_usage(there).free + own


def check_room(directory: Path, sizes: Sizes) -> None:
    """Raise UserError if a training cannot fit on the disk of its directory."""
    if (there := room(directory.absolute())) < sizes.running:
        raise UserError(
            f"{directory}: the training needs {in_bytes(sizes.running)} for its checkpoints, and its disk has room for "
            f"{in_bytes(there)}; free space, or write elsewhere with --results"
        )


def in_bytes(count: float) -> str:
    """Return a size as people write it: 16 KB, 1.2 MB, 263 GB."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            return f"{count / size:.{1 if count < 10 * size else 0}f} {unit}"
    return f"{count / 1e3:.0f} KB"
