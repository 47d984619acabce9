"""The picture of a board at several widths."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from tests.tune_tests.results.test_board import board, epoch
from tune.results.drawing import draw


def drawn(found: Any, width: int, height: int = 40) -> list[str]:
    console = Console(width=width, file=io.StringIO(), force_terminal=True, color_system=None)
    console.print(draw(found, width, height))
    return [line.rstrip() for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]


@pytest.mark.parametrize("width", [40, 80, 120])
def test_no_line_is_as_wide_as_the_terminal(width: int) -> None:
    found = board(trainings=40)
    for number in range(40):
        found.begin(f"{number:03d}", 3)
        found.learn(f"{number:03d}", epoch(1, 0.5 + number / 100))
    found.set_state("007", "waits", "waits for 1 worker since 12:03 (" + "a reason " * 20)
    found.event("  12.0 s  007  " + "what it has met " * 20)
    lines = drawn(found, width, 24)
    assert max(map(len, lines)) <= width and len(lines) < 24
    assert "1 worker" in "\n".join(lines) or width == 40, "what it waits for, without saying so twice"


def test_the_head_says_what_is_spent_and_left_and_the_best_against_the_default() -> None:
    found = board(trainings=4)
    found.begin("000", 9)
    found.learn("000", epoch(1, 0.7))
    found.begin("001", 3)
    found.learn("001", epoch(2, 0.8))
    first, second, third, fourth, *_ = drawn(found, 120)
    assert first.startswith("search  2 min, about ") and first.endswith(" left; limit 4 trials")
    assert second == "3 of about 20 epochs; 2 of 4 trials" and third == "2 running"
    assert fourth == "best so far 80.0 % (001); default 60.0 %: +20.0 points"
    assert any(
        line.split() == ["001", "running", "2", "of", "3/9", "80.0", "%", "80.0", "%"] for line in drawn(found, 80)
    )


def test_repeated_trainings_are_not_compared_before_the_end() -> None:
    found = board(noun="trainings", reference="", at_most=True)
    found.begin("no spline  seed 1", 9)
    found.learn("no spline  seed 1", epoch(1, 0.7))
    text = "\n".join(drawn(found, 100))
    assert "best so far" not in text and "training" in text and "1 of at most 20 epochs" in text
