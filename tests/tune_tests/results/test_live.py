"""The live view in a real terminal: in place, with lines above, and nothing left behind."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest

from tests.paths import ROOT
from tests.terminal import Screen, Terminal
from tune.results.live import refreshes

PROGRAM = """
import os, signal, sys, time
sys.path.insert(0, {root!r})
from nmt.training.signals import interruptions
from tune.results.board import Board, Goal
from tune.results.live import live
from tune.results.log import kept_in, log, replace_unknown_characters, to_console
from pathlib import Path

replace_unknown_characters()
to_console()
started = time.monotonic()
goal = Goal(title="search toy", limit="4 trials", trainings=4, full=3, epochs=9)
board = Board(goal, seconds=lambda: time.monotonic() - started)
wait = lambda seconds: [time.sleep(0.05) for _ in range(int(20 * seconds))]
with kept_in(Path(sys.argv[1])), interruptions(), live(board):
    board.begin("000", 3)
    log.info("a line above")
    board.learn("000", {{"epoch": 1, "val/accuracy": 0.25}})
    print("x" * 100)
    board.begin("001", 3)
    board.set_state("001", "waits", "waits for 1 worker since 12:03")
    {body}
print("the report")
"""


def program(tmp_path: Path, body: str) -> list[str]:
    return [sys.executable, "-c", PROGRAM.format(root=str(ROOT), body=body), str(tmp_path)]


def shows_table(screen: Screen) -> bool:
    return "search toy" in screen.text and "1 worker since" in screen.text


@pytest.mark.parametrize("columns", [80, 120])
def test_the_view_stands_below_the_lines_and_goes_at_the_end(tmp_path: Path, columns: int) -> None:
    terminal = Terminal(program(tmp_path, "wait(3)"), columns=columns, environment={})
    screen = terminal.read_until(shows_table)
    text = screen.text
    assert text.index("a line above") < text.index("search toy") < text.index("000") < text.index("001")
    assert text.count("search toy") == 1 and "2 of 4 trials" in text and "1 of about 9 epochs" in text
    assert max(map(len, screen.lines)) <= columns
    assert terminal.end() == 0
    plain = terminal.screen.text.splitlines()
    assert plain[0] == "a line above" and "".join(plain[1:-1]) == "x" * 100 and plain[-1] == "the report"
    assert not {"?25l", "?1049h"} & terminal.screen.controls, "the cursor is never hidden, the screen never left"
    assert [line.split("  ")[1] for line in (tmp_path / "search.log").read_text().splitlines()] == ["a line above"]


def test_a_narrower_terminal_has_no_pieces_of_the_last_view(tmp_path: Path) -> None:
    terminal = Terminal(program(tmp_path, "wait(6)"), columns=120, environment={})
    terminal.read_until(shows_table)
    terminal.resize(60, 16)
    # What a terminal does with lines that are too long for it now: it wraps them.
    lines = [line[i : i + 60] for line in terminal.screen.lines for i in range(0, max(1, len(line)), 60)]
    terminal.screen.lines, terminal.screen.row = lines, len(lines) - 1
    screen = terminal.read_until(lambda screen: "2J" in screen.controls and "waits" in screen.text)
    assert screen.text.count("search toy") == 1 and max(map(len, screen.lines)) <= 60
    assert terminal.end() == 0 and terminal.screen.text.endswith("the report")


def test_an_ascii_terminal_and_one_without_colours(tmp_path: Path) -> None:
    terminal = Terminal(program(tmp_path, "wait(2)"), environment={"PYTHONIOENCODING": "ascii", "NO_COLOR": "1"})
    screen = terminal.read_until(shows_table)
    assert screen.text.isascii() and "----" in screen.text and "?" not in screen.text
    assert terminal.end() == 0
    assert not any(part.startswith(b"3") for part in terminal.written.split(b"\x1b[")), "a colour"


@pytest.mark.parametrize("body", ["raise SystemExit('it failed')", "print('half a line', end=''); raise KeyError(7)"])
def test_an_error_leaves_the_terminal_clean(tmp_path: Path, body: str) -> None:
    terminal = Terminal(program(tmp_path, f"wait(1); {body}"), environment={})
    terminal.read_until(shows_table)
    assert terminal.end() == 1
    text = terminal.screen.text
    assert "search toy" not in text and ("it failed" in text or text.endswith("KeyError: 7")), text
    assert ("half a line" in text) == ("half" in body)


def test_ctrl_c_goes_on_below_its_line_and_a_second_one_ends(tmp_path: Path) -> None:
    terminal = Terminal(program(tmp_path, "wait(60)"), environment={})
    terminal.read_until(shows_table)
    terminal.press(b"\x03")
    screen = terminal.read_until(lambda screen: "Interrupted." in screen.text and shows_table(screen))
    assert screen.text.index("Interrupted.") < screen.text.index("search toy")
    terminal.press(b"\x03")
    assert terminal.end() != 0 and terminal.screen.text.endswith("KeyboardInterrupt")
    assert "search toy" not in terminal.screen.text


def test_a_closed_terminal_does_not_end_the_work(tmp_path: Path) -> None:
    done = tmp_path / "done"
    terminal = Terminal(program(tmp_path, f"wait(3); log.info('late'); Path({str(done)!r}).touch()"), environment={})
    terminal.read_until(shows_table)
    terminal.close()
    terminal.process.wait(timeout=60)
    assert done.exists() and "late" in (tmp_path / "search.log").read_text()


def test_errors_that_go_to_a_file_stay_there(tmp_path: Path) -> None:
    errors, body = tmp_path / "errors", "print('a warning', file=sys.stderr); wait(1)"
    command = ["sh", "-c", f"exec \"$@\" 2> '{errors}'", "sh", *program(tmp_path, body)]
    terminal = Terminal(command, environment={})
    terminal.read_until(shows_table)
    assert terminal.end() == 0 and "a warning" not in terminal.screen.text
    assert errors.read_text() == "a warning\n"


@pytest.mark.parametrize("environment", [{"TERM": "dumb"}, {"CI": "true"}])
def test_a_terminal_that_cannot_draw_gets_plain_lines(tmp_path: Path, environment: dict[str, str]) -> None:
    terminal = Terminal(program(tmp_path, "wait(1)"), columns=120, environment=environment)
    assert terminal.end() == 0
    assert terminal.written.decode().split() == ["a", "line", "above", "x" * 100, "the", "report"]


def test_a_pipe_gets_plain_lines(tmp_path: Path) -> None:
    ran = subprocess.run(program(tmp_path, ""), capture_output=True, text=True, check=True)
    assert ran.stdout == "a line above\n" + "x" * 100 + "\nthe report\n" and not ran.stderr
    assert not refreshes(io.StringIO())
    closed = io.StringIO()
    closed.close()
    assert not refreshes(closed)


@pytest.mark.slow
def test_a_real_search_in_a_terminal(tiny_data: Path, space_file: Path, tmp_path: Path) -> None:
    """The view while it runs, the report after it, and the lines of the log all through."""
    command = [sys.executable, "run.py", "--search", str(space_file), "--data", str(tiny_data)]
    terminal = Terminal([*command, "--results", str(tmp_path)], columns=100, rows=40, environment={"PWD": str(ROOT)})
    screen = terminal.read_until(lambda s: "search tiny" in s.text and "running" in s.text and "best so far" in s.text)
    assert screen.text.count("search tiny") == 1 and "of 5 trials" in screen.text
    assert terminal.end() == 0
    text = terminal.screen.text
    assert "search tiny" not in text and "Most important" not in text and "Next:" in text, "five trials say nothing"
    log = (tmp_path / "tiny/search.log").read_text()
    ended = [line.partition("  ")[2].strip() for line in log.splitlines() if "COMPLETE  4 of 4" in line]
    assert ended and all(" ".join(line.split()) in " ".join(text.split()) for line in ended)
    assert "\x1b" not in log and "search tiny" not in log
