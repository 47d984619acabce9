"""The lines that a search prints while it runs, each with the seconds since the start of the search."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from nmt.training.history import METRIC
from tune.results.layout import trial_id
from tune.results.log import log
from tune.results.summary import Summary

LINE_SECONDS = 20.0
"""shortest time between the last line and a line about a running trial"""


class Lines:
    """The clock of a search, and its lines.

    Args:
        epochs: of a trial at full budget.
        earlier_seconds: wall-clock time of the earlier runs of a resumed search.
    """

    def __init__(self, epochs: int, *, earlier_seconds: float) -> None:
        self._epochs = epochs
        self._started = time.monotonic() - earlier_seconds
        self._printed = time.monotonic()

    def seconds(self) -> float:
        """Return the wall-clock time of the search so far, over all its runs."""
        return time.monotonic() - self._started

    def note(self, number: int, text: str) -> None:
        """Print a line about a trial."""
        self._printed = time.monotonic()
        log.info(f"{self.seconds():7.1f} s  {trial_id(number)}  {text}")

    def epoch(self, number: int, metrics: Mapping[str, Any]) -> None:
        """Print the progress of a running trial, unless the last line is too recent."""
        if time.monotonic() - self._printed > LINE_SECONDS:
            self.note(number, f"epoch {metrics['epoch']} of {self._epochs}  {100 * metrics[METRIC]:.1f} %")

    def waits(self, number: int, metrics: Mapping[str, Any]) -> None:
        """Print that a trial has paused at a rung."""
        self.note(number, f"paused at {metrics['epoch']} of {self._epochs} epochs  {100 * metrics[METRIC]:.1f} %")

    def end(
        self, number: int, state: str, reason: str | None, *, epochs: int, best: Mapping[str, Any], summary: Summary
    ) -> None:
        """Print how a trial ended."""
        parts = [f"{state:<8}  {epochs} of {self._epochs} epochs"]
        parts += [f"{100 * best[METRIC]:.1f} %"] if best else []
        parts += [reason] if reason else []
        if summary.best is not None and summary.best.accuracy is not None:
            parts.append(f"best so far {100 * summary.best.accuracy:.1f} % ({summary.best.id})")
        self.note(number, "  ".join(parts))
