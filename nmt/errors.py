"""What a user's mistake and a job that fails raise, and the nearest-name hint its messages use."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

MAX_TEXT = 200
"""characters that a message quotes of another library's error"""


class UserError(Exception):
    """A wrong request: one line that says what is wrong, where, and what would be right. `run.py` exits 2 with it."""


class FailedError(Exception):
    """The request was right and the job failed, for a reason in one line. `run.py` exits 1 with it."""


def one_line(error: BaseException | str) -> str:
    """Fold the text of an error, or a program's output, into one line for a message.

    Args:
        error: an exception, or its text.

    Returns:
        The text with every run of white space as one blank, at most 200 characters; the class's name where an exception
        has no text.
    """
    # Some libraries put a stack trace into the text (torch) or the whole file (YAML): the beginning names the fault.
    return " ".join(str(error).split())[:MAX_TEXT] or type(error).__name__


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint to append to a message: the closest known name, or all of them when none is close."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.7)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"known: {', '.join(names)}" if names else "there are none yet"
