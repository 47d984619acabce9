"""TODO docstring of nmt.training.history."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nmt.io.files import atomic_write


@dataclass(frozen=True)
class EpochReport:
    """What an epoch reports: `epoch` completed (1 = the first) and the metrics by their contract names."""

    epoch: int
    metrics: dict[str, float | int | str]


@dataclass
class Progress:
    """Where a training stands; all that a resumed one must know beside weights and optimizer."""

    epoch: int = 0
    """completed epochs"""
    step: int = 0
    """completed steps of the epoch under way"""
    loss_sums: dict[str, float] = dataclasses.field(default_factory=dict)
    """of that epoch: each term summed over its steps; while training, this rank's share of it"""
    epoch_seconds: float = 0.0
    """training time of that epoch"""
    seconds: float = 0.0
    """training and evaluation so far"""
    best_accuracy: float = -1.0
    history: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    """metrics of every completed epoch"""

    def best(self) -> EpochReport:
        """The epoch of highest accuracy; the first of equals."""
        best = max(self.history, key=lambda metrics: metrics["val/accuracy"])
        return EpochReport(best["epoch"], best)


def write_metrics(directory: Path, progress: Progress) -> None:
    with atomic_write(directory / "metrics.jsonl") as file:
        file.write("".join(json.dumps(metrics) + "\n" for metrics in progress.history).encode())
