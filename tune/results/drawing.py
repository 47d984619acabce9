"""Draw the live view of a search: its table, refreshed in place on a terminal. Lines for the user go above it."""

from __future__ import annotations

import contextlib
import math
import sys
import threading
from collections.abc import Iterator
from typing import Any, TextIO

from rich import box
from rich.console import Console, Group, OverflowMethod, RenderableType
from rich.control import Control
from rich.live import Live
from rich.table import Table
from rich.text import Text

from nmt.durations import in_words
from tune.results.board import ENDED, EVENTS, PAUSED, RUNNING, WAITING, Board, Goal, Row
from tune.results.log import discard_output, is_terminal

REFRESHES = 2.0
"""a second"""
MOST_ROWS = 24
OTHER_LINES = 9 + EVENTS
"""lines of the view beside its rows"""
STYLES = {RUNNING: "green", WAITING: "yellow", "failed": "red", "stopped": "dim", PAUSED: "dim"}
ORDER = (RUNNING, WAITING, *ENDED.values(), PAUSED)


@contextlib.contextmanager
def drawn(board: Board) -> Iterator[None]:
    """Show the board on standard output while this is open; what is printed meanwhile goes above it."""
    stream = sys.stdout
    console = _Console(file=stream, force_terminal=True, highlight=False, emoji=False, markup=False)
    live = _Live(board, console)
    above = [_Above(live, stream)]
    if is_terminal(sys.stderr):  # what goes to a file, as with `2> errors`, stays there
        above.append(_Above(live, sys.stderr))
    with live.refreshing():
        streams = sys.stdout, sys.stderr
        sys.stdout, sys.stderr = above[0], above[1] if above[1:] else sys.stderr
        try:
            yield
        finally:
            for part in above:
                part.end()
            sys.stdout, sys.stderr = streams


class _Console(Console):
    """A terminal whose cursor stays visible, so that it is left clean even by a process that is killed."""

    def show_cursor(self, show: bool = True) -> bool:
        return False


class _Live(Live):
    """The view in place. It disappears at the end, where the report is printed."""

    def __init__(self, board: Board, console: Console) -> None:
        super().__init__(
            console=console,
            get_renderable=lambda: draw(board, console.width, console.height, ascii_only=console.options.ascii_only),
            auto_refresh=False,  # see `refreshing`
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            vertical_overflow="crop",
        )
        self._width = console.width
        self.guard = threading.RLock()
        """held by whoever writes to the terminal, until all is written: each view is drawn over the last one"""

    @contextlib.contextmanager
    def refreshing(self) -> Iterator[None]:
        """Show the view, and draw it again twice a second, while this is open."""
        ended = threading.Event()

        def refresh() -> None:
            while not ended.wait(1 / REFRESHES):
                self.refresh()

        thread = threading.Thread(target=refresh, daemon=True)
        with self.guard:
            self.start(refresh=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            with self.guard:
                self.stop()
            thread.join()

    def refresh(self) -> None:
        """Draw the view again. A narrower terminal has wrapped the lines of the last one, so all of it is cleared."""
        with self.guard:
            width, before = self.console.width, self._width
            self._width = width
            try:
                if width < before:
                    self.console.control(Control.clear(), Control.home())
                super().refresh()
            except OSError:  # the terminal is closed; the search goes on
                discard_output()


class _Above:
    """A stream whose whole lines are printed above the view."""

    def __init__(self, live: _Live, stream: TextIO) -> None:
        self._live, self._stream, self._begun = live, stream, ""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Print the lines that end in `text`. The terminal wraps long ones, so that they can be copied."""
        with self._live.guard:
            *lines, self._begun = (self._begun + text).split("\n")
            if lines:
                self._live.console.print(Text.from_ansi("\n".join(lines)), soft_wrap=True)
        return len(text)

    def flush(self) -> None:
        """Keep a line that has not ended yet."""

    def end(self) -> None:
        """Print a last line that has not ended."""
        if self._begun:
            self.write("\n")


def draw(board: Board, width: int, height: int, *, ascii_only: bool = False) -> RenderableType:
    """Return the view: what is spent and left, the table, and the last events."""
    cut: OverflowMethod = "crop" if ascii_only else "ellipsis"
    table = Table(box=box.SIMPLE_HEAD, width=width - 1, pad_edge=False, padding=(0, 1), show_edge=False)
    table.add_column("training" if board.goal.noun != "trials" else "trial", no_wrap=True, overflow=cut, min_width=5)
    table.add_column("state", no_wrap=True, min_width=len("complete"))
    for name in ("epoch", "val", "best"):
        table.add_column(name, justify="right", no_wrap=True, min_width=len("100.0 %"))
    table.add_column("waits for, or why", ratio=1, no_wrap=True, overflow=cut)
    best = board.best()
    for row in board.rows(max(1, min(MOST_ROWS, height - OTHER_LINES))):
        first = best is not None and row.name == best.name
        table.add_row(*_cells(row, board.goal), style=f"{STYLES.get(row.state, '')}{' bold' * first}".strip())
    events = [Text(event, style="dim") for event in board.events]
    head = _head(board)
    for line in (*head, *events):
        line.truncate(width - 1, overflow=cut)
    # The last line is empty, for the "^C" that a terminal writes at the cursor: in a full line it would begin another.
    return Group(*head, Text(), table, *([Text()] if events else []), *events, Text())


def _head(board: Board) -> list[Text]:
    """Return the lines above the table: time, budget, and the best so far against the default."""
    goal, left, counts = board.goal, board.left(), board.counts()
    rest = "" if left is None else f", {'at most' if goal.at_most else 'about'} {in_words(left)} left"
    of = f" of {'at most' if goal.at_most else 'about'} {board.expected():g}" if math.isfinite(goal.epochs) else ""
    begun, all_of = sum(counts.values()), f" of {goal.trainings}" if goal.trainings else ""
    states = ", ".join(f"{counts[state]} {state}" for state in ORDER if counts[state])
    lines = [
        Text.assemble((goal.title, "bold"), f"  {in_words(board.seconds())}{rest}; limit {goal.limit}"),
        Text(f"{board.epochs()}{of} epochs; {begun}{all_of} {goal.noun}"),
        *([Text(states)] if states else []),
    ]
    best, reference = board.best(), board.reference()
    if goal.reference and best is not None and best.best is not None:
        found = Text.assemble("best so far ", (f"{100 * best.best:.1f} %", "bold"), f" ({best.name})")
        if reference is not None:
            found.append(f"; default {100 * reference:.1f} %: {100 * (best.best - reference):+.1f} points")
        lines.append(found)
    return lines


def _cells(row: Row, goal: Goal) -> list[str]:
    """Return a row of the table: epochs as "2 of 3/9", the rung and the full budget."""
    rung = f"{row.until}/" if row.active and row.until not in (0, goal.full) else ""
    epoch = f"{row.epoch} of {rung}{goal.full}"
    return [row.name, row.state, epoch, _percent(row.value), _percent(row.best), row.why.removeprefix("waits for ")]


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"
