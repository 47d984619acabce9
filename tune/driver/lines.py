"""The lines that a search prints while it runs, each with the seconds since the start of the search."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

from nmt.training.history import METRIC
from tune.results.board import ENDED, PAUSED, WAITING, Board, Goal
from tune.results.layout import trial_id
from tune.results.log import log
from tune.results.summary import Summary
from tune.spaces.settings import limits_in_words
from tune.spaces.space import Space
from tune.study.budget import usual_epochs
from tune.study.halving import Ladder

LINE_SECONDS = 20.0
"""shortest time between the last line and a line about a running trial"""


class Lines:
    """The clock of a search, its lines, and the board of its live view.

    Args:
        epochs: of a trial at full budget.
        earlier_seconds: wall-clock time of the earlier runs of a resumed search.
        goal: of the search, for the board.
    """

    def __init__(self, epochs: int, *, earlier_seconds: float, goal: Goal | None = None) -> None:
        goal = goal or Goal(title="search", limit="", full=epochs, epochs=math.inf)
        self.board = Board(goal, seconds=self.seconds)
        self._epochs = epochs
        self._started = time.monotonic() - earlier_seconds
        self._printed = time.monotonic()

    def seconds(self) -> float:
        """Return the wall-clock time of the search so far, over all its runs."""
        return time.monotonic() - self._started

    def know(self, number: int, history: Sequence[Mapping[str, Any]], state: str) -> None:
        """Show what an earlier run has trained.

        Args:
            state: of the trial in the study.
        """
        self.board.know(trial_id(number), history, ENDED.get(state, PAUSED))

    def begins(self, number: int, until: int) -> None:
        """Show that a trial has a job, which ends at epoch `until`."""
        self.board.begin(trial_id(number), until)

    def note(self, number: int, text: str) -> None:
        """Print a line about a trial: what it has met."""
        self.board.event(self._print(number, text))

    def held(self, number: int, text: str) -> None:
        """Print what a trial waits for until it trains on."""
        self.note(number, text)
        self.board.set_state(trial_id(number), WAITING, text)

    def _print(self, number: int, text: str) -> str:
        self._printed = time.monotonic()
        line = f"{self.seconds():7.1f} s  {trial_id(number)}  {text}"
        log.info(line)
        return line

    def epoch(self, number: int, metrics: Mapping[str, Any]) -> None:
        """Print the progress of a running trial, unless the last line is too recent."""
        self.board.learn(trial_id(number), metrics)
        if time.monotonic() - self._printed > LINE_SECONDS:
            self._print(number, f"epoch {metrics['epoch']} of {self._epochs}  {100 * metrics[METRIC]:.1f} %")

    def waits(self, number: int, metrics: Mapping[str, Any]) -> None:
        """Print that a trial has paused at a rung."""
        self.board.learn(trial_id(number), metrics)
        self.board.set_state(trial_id(number), PAUSED, "a better rank")
        self._print(number, f"paused at {metrics['epoch']} of {self._epochs} epochs  {100 * metrics[METRIC]:.1f} %")

    def end(
        self, number: int, state: str, reason: str | None, *, epochs: int, best: Mapping[str, Any], summary: Summary
    ) -> None:
        """Print how a trial ended."""
        parts = [f"{state:<8}  {epochs} of {self._epochs} epochs"]
        parts += [f"{100 * best[METRIC]:.1f} %"] if best else []
        parts += [reason] if reason else []
        if summary.best is not None and summary.best.accuracy is not None:
            parts.append(f"best so far {100 * summary.best.accuracy:.1f} % ({summary.best.id})")
        self.board.set_state(trial_id(number), ENDED[state], reason or "")
        self._print(number, "  ".join(parts))


def goal_of(space: Space, ladder: Ladder) -> Goal:
    """Return what a search is to do, for its live view."""
    search, promotes = space.search, len(ladder.rungs) > 1
    usual = usual_epochs(search.trials, ladder) if search.trials else math.inf
    return Goal(
        title=f"search {space.name}",
        limit=limits_in_words(vars(search)),
        trainings=search.trials,
        full=ladder.epochs,
        epochs=min(usual, search.epochs or math.inf),
        at_most=not promotes and search.scheduler != "fifo",
        seconds=3600 * search.hours or math.inf,
    )
