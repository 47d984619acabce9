"""What a training has completed: its progress, and metrics.jsonl, written and read."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nmt.io.files import atomic_write
from nmt.training.files import METRICS


@dataclass(frozen=True)
class EpochResult:
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

    def best(self) -> EpochResult:
        """The epoch of highest accuracy; the first of equals."""
        best = max(self.history, key=lambda metrics: metrics["val/accuracy"])
        return EpochResult(best["epoch"], best)


def write_metrics(directory: Path, progress: Progress) -> None:
    with atomic_write(directory / METRICS) as file:
        file.write("".join(json.dumps(metrics) + "\n" for metrics in progress.history).encode())


METRIC = "val/accuracy"
FIXED_METRIC = "val/accuracy_fixed_decode"


def decoding_of(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The decode setting that val/accuracy was read at, {"epsilon": ..}."""
    return {key.removeprefix("decode/"): value for key, value in metrics.items() if key.startswith("decode/")}


def read_metrics(directory: Path) -> list[dict[str, Any]]:
    """The metrics of a training, one dictionary an epoch; a last line cut short by a crash is left out."""
    try:
        lines = (directory / METRICS).read_text().splitlines(keepends=True)
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def best_epoch(history: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The metrics of the epoch with the highest val/accuracy, the earliest of equals; {} of no epochs."""
    finite = [m for m in history if math.isfinite(m[METRIC])]
    return dict(max(finite, key=lambda m: (m[METRIC], -m["epoch"]), default={}))
