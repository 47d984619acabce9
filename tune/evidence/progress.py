"""The lines of repeated trainings while they run, and the board of their live view."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from nmt.config import Config
from nmt.training.files import METRICS
from nmt.training.history import read_metrics
from tune.results.board import RUNNING, WAITING, Board, Goal
from tune.results.log import log

LINE_SECONDS = 30.0
"""time without an ended training after which a line of progress is printed"""


class Progress:
    """What the trainings have reached, read from their folders.

    Args:
        title: of the live view.
        jobs: directory -> configuration of the trainings to run, in their order.
        labels: directory -> name of every training, those included that have ended before.
        at_once: trainings that run side by side.
    """

    def __init__(self, title: str, jobs: Mapping[Path, Config], labels: Mapping[Path, str], *, at_once: int) -> None:
        self._labels, self._at_once = labels, at_once
        self._started = self._printed = time.monotonic()
        self._left = {directory: config.train.epochs for directory, config in jobs.items()}
        self._seen = dict.fromkeys(jobs, 0)
        """directory -> size of its metrics when they were last read"""
        self._epochs = {directory: len(read_metrics(directory)) for directory in labels}
        self.total = sum(self._left.values())
        goal = Goal(
            title=title,
            limit=f"{len(labels)} trainings",
            noun="trainings",
            trainings=len(labels),
            full=max(self._left.values()),
            epochs=self.total + sum(n for directory, n in self._epochs.items() if directory not in jobs),
            reference="",
        )
        self.board = Board(goal, seconds=lambda: time.monotonic() - self._started)
        for directory, label in labels.items():
            self.board.know(label, read_metrics(directory), "complete" if directory not in jobs else WAITING)
        self._show_running()

    def line(self, text: str) -> None:
        """Print a line with the seconds since the start."""
        self._printed = time.monotonic()
        log.info(f"{self._printed - self._started:7.1f} s  {text}")

    def look(self) -> None:
        """Read what has changed. Print a line if the last one is long ago."""
        for directory in self._left:
            try:
                size = (directory / METRICS).stat().st_size
            except OSError:  # no epoch has ended yet
                continue
            if size != self._seen[directory]:
                self._seen[directory] = size
                self._read(directory)
        if time.monotonic() - self._printed > LINE_SECONDS:
            self.line(f"{sum(self._epochs[directory] for directory in self._seen)} of {self.total} epochs")

    def _read(self, directory: Path) -> None:
        history = read_metrics(directory)
        for metrics in history[self._epochs[directory] :]:
            self.board.learn(self._labels[directory], metrics)
        self._epochs[directory] = len(history)

    def ended(self, directory: Path, text: str, *, failed: bool) -> None:
        """Print how a training has ended."""
        self._read(directory)
        del self._left[directory]
        self.board.set_state(self._labels[directory], "failed" if failed else "complete", text if failed else "")
        self._show_running()
        self.line(f"{self._labels[directory]}  {text}")

    def _show_running(self) -> None:
        """Show which trainings run: Ray starts them in their order."""
        for place, (directory, epochs) in enumerate(self._left.items()):
            running = place < self._at_once
            self.board.begin(self._labels[directory], epochs, state=RUNNING if running else WAITING)
            if not running:
                self.board.set_state(self._labels[directory], WAITING, "waits for a free place")
