"""Progress of a training, and its history of metrics: metrics.jsonl, written and read here.

metrics.jsonl has one JSON object per completed epoch.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nmt.errors import UserError, one_line
from nmt.io.files import atomic_write
from nmt.training.files import METRICS


@dataclass(frozen=True)
class EpochResult:
    """Report of one epoch."""

    epoch: int
    """number of the completed epoch, 1 = the first"""
    metrics: dict[str, float | int | str]
    """name -> value, such as val/accuracy, val/accuracy/CATEGORY, train/loss, decode/epsilon"""


@dataclass
class Progress:
    """Position of a training in its schedule: with weights and optimizer, all that is needed to resume."""

    epoch: int = 0
    """completed epochs"""
    step: int = 0
    """completed steps of the current epoch"""
    loss_sums: dict[str, float] = dataclasses.field(default_factory=dict)
    """loss term -> sum over the steps of the current epoch; this rank's share while training, all ranks' once saved"""
    epoch_seconds: float = 0.0
    """training time of the current epoch, seconds"""
    seconds: float = 0.0
    """training and evaluation time of the completed epochs, seconds"""
    best_accuracy: float = -1.0
    """highest val/accuracy so far; -1 before the first epoch"""
    history: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    """metrics of every completed epoch"""

    def best(self) -> EpochResult:
        """Return the epoch of highest val/accuracy, the first of equals; the last epoch of a training without val."""
        last = self.history[-1]
        best = max(self.history, key=lambda metrics: metrics[METRIC]) if METRIC in last else last
        return EpochResult(best["epoch"], best)

    def is_best(self, metrics: Mapping[str, Any]) -> bool:
        """True if these are the metrics of the best epoch so far; without val, the latest always are."""
        return METRIC not in metrics or metrics[METRIC] > self.best_accuracy


def write_metrics(directory: Path, progress: Progress) -> None:
    """Write metrics.jsonl anew from the history, atomically. Raises UserError when it cannot be written."""
    with atomic_write(directory / METRICS) as file:
        file.write("".join(json.dumps(metrics) + "\n" for metrics in progress.history).encode())


METRIC = "val/accuracy"
"""validation accuracy at the best decoding: what a search maximises; absent where val is trained on"""
F1_METRIC = "val/f1"
"""F1 of the matches that are left where confidences leave some out; only where an objective of a search asks for it"""
FIXED_METRIC = "val/accuracy_fixed_decode"
"""validation accuracy at the configured decoding"""


def decoding_of(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return the decoding that val/accuracy was read at: parameter -> value, such as {"epsilon": 0.035}."""
    return {key.removeprefix("decode/"): value for key, value in metrics.items() if key.startswith("decode/")}


def read_metrics(directory: Path) -> list[dict[str, Any]]:
    """Read metrics.jsonl.

    Returns:
        One dictionary per epoch; none when there is no file. An incomplete last line is left out.

    Raises:
        UserError: the file is damaged, or cannot be read.
    """
    path = directory / METRICS
    try:
        lines = path.read_text().splitlines(keepends=True)
        return [_epoch(line, number) for number, line in enumerate(lines, start=1) if line.endswith("\n")]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path}: not the metrics of a training ({one_line(error)}); put back a copy, or remove {directory} to "
            "train it again"
        ) from error


def _epoch(line: str, number: int) -> dict[str, Any]:
    """Decode a line. Raises ValueError, KeyError or TypeError unless it holds the metrics of epoch `number`."""
    metrics: dict[str, Any] = json.loads(line)
    float(metrics[METRIC] if METRIC in metrics else metrics["train/loss"])
    if metrics["epoch"] != number:  # a line is lost or doubled
        raise ValueError(f"line {number} is of epoch {metrics['epoch']}")
    return metrics


def best_epoch(history: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the metrics of the epoch with the highest finite val/accuracy, the earliest of equals; {} if none.

    Of a training without val (`data.train_split`), whose metrics lack it, the last epoch counts.
    """
    if history and METRIC not in history[-1]:
        return dict(history[-1])
    finite = [m for m in history if math.isfinite(m[METRIC])]
    return dict(max(finite, key=lambda m: (m[METRIC], -m["epoch"]), default={}))
