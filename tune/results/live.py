"""Show a search while it runs: in place on a terminal, and as plain lines everywhere else."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import TextIO

from tune.results.board import Board
from tune.results.log import is_terminal


@contextlib.contextmanager
def live(board: Board) -> Iterator[None]:
    """Show the board while this is open, where standard output is a terminal; elsewhere print only the lines."""
    if not refreshes(sys.stdout):
        yield
        return
    from tune.results.drawing import drawn  # only here: rich takes 0.1 s to import

    with drawn(board):
        yield


def refreshes(stream: TextIO) -> bool:
    """True for a terminal on which lines can be drawn again, that this process is in the foreground of."""
    if os.environ.get("TERM", "dumb") in ("", "dumb", "unknown") or os.environ.get("CI"):
        return False
    if not is_terminal(stream):
        return False
    with contextlib.suppress(OSError, ValueError, AttributeError):  # no terminal of its own, or no such thing here
        return os.tcgetpgrp(stream.fileno()) == os.getpgrp()
    return True
