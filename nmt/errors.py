"""Exceptions that reach the user, and helpers for their messages."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

MAX_TEXT = 200
"""characters that a message quotes of another library's error"""


class UserError(Exception):
    """A mistake of the user. Its one line names what is wrong, where, and what would be right; `run.py` exits 2."""


class TemporaryError(UserError):
    """A fault of the machines, not of the request: a full disk, too little memory, a storage or a hub out of reach.

    The same request may succeed later, so a search keeps a trial that it ended.
    """


class FailedError(Exception):
    """A correct request whose job failed. Its one line is the reason; `run.py` exits 1."""


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
    """Make a hint for an unknown name: the closest known name, or all of them when none is close.

    Args:
        name: what the user wrote.
        known: the names that exist.
    """
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.7)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"known: {', '.join(names)}" if names else "there are none yet"
