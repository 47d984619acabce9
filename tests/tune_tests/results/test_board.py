"""What the live view knows: rows, counts and the time that is left."""

from __future__ import annotations

import math
import pickle
from typing import Any

import pytest

from tune.results.board import Board, Goal


def epoch(number: int, value: float, **more: Any) -> dict[str, Any]:
    return {"epoch": number, "val/accuracy": value, "val/accuracy_fixed_decode": value - 0.1} | more


def board(**goal: Any) -> Board:
    given: dict[str, Any] = {"title": "search", "limit": "4 trials", "full": 9, "epochs": 20.0} | goal
    return Board(Goal(**given), seconds=lambda: 100.0)


def test_rows_with_a_job_come_first_then_the_best() -> None:
    found = board()
    for number, value in enumerate((0.3, 0.9, 0.5, 0.7)):
        found.begin(f"00{number}", 3)
        found.learn(f"00{number}", epoch(1, value))
    found.set_state("000", "complete")
    found.set_state("001", "stopped")
    found.set_state("003", "waits", "waits for 1 worker")
    assert [row.name for row in found.rows(9)] == ["002", "003", "001", "000"] and len(found.rows(2)) == 2
    assert found.counts() == {"complete": 1, "stopped": 1, "running": 1, "waits": 1} and found.epochs() == 4
    best = found.best()
    assert best is not None and best.name == "001" and found.reference() == pytest.approx(0.2)
    found.learn("003", epoch(2, 0.6))
    (row,) = [row for row in found.rows(9) if row.name == "003"]
    assert (row.state, row.why, row.value, row.best) == ("running", "", 0.6, 0.7), "it runs again"


def test_an_epoch_that_is_heard_of_after_the_end_changes_no_state() -> None:
    found = board()
    found.begin("000", 3)
    found.set_state("000", "failed", "diverged")
    found.learn("000", epoch(1, math.nan))
    (row,) = found.rows(1)
    assert (row.state, row.why, row.best, row.epoch) == ("failed", "diverged", None, 1)
    assert found.best() is None


def test_time_left_follows_from_the_epochs_of_this_run(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr("tune.results.board.time.monotonic", lambda: now[0])
    found = board()
    found.know("000", [epoch(n, 0.5) for n in range(1, 10)], "complete")
    assert found.left() is None and found.expected() == 20
    found.begin("001", 3)
    now[0] += 4
    found.learn("001", epoch(1, 0.5))
    assert found.left() == pytest.approx((20 - 10) * 4)
    found.begin("002", 9)
    found.know("003", [epoch(n, 0.5) for n in range(1, 10)], "complete")
    assert found.expected() == 9 + 3 + 9 + 9, "more than is usual: what runs leads there"
    assert board(seconds=130.0, epochs=math.inf).left() == 30 and board(epochs=math.inf).left() is None


def test_a_board_can_be_sent_and_goes_on() -> None:
    found: Board = pickle.loads(pickle.dumps(Sent(board()))).board
    found.begin("000", 3)
    for number in range(5):
        found.event(f"event {number}")
    assert found.events == ["event 2", "event 3", "event 4"]


class Sent:
    """Like the lines of a search, which Ray pickles with its callbacks."""

    def __init__(self, board: Board) -> None:
        self.board = board
        board.seconds = self.seconds

    def seconds(self) -> float:
        return 1.0
