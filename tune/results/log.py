"""Print the lines of a search, confirmation or ablation: to the console and to results/NAME/search.log.

The handlers are on the project's own logger, "nmt", so that lines of nmt itself come out beside those of "nmt.search".
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from nmt.commands import program_name
from nmt.errors import UserError
from tune.results.layout import LOG

log = logging.getLogger("nmt.search")
"""logger of every line for the user, at level INFO"""

_PROJECT = logging.getLogger("nmt")
_PROJECT.setLevel(logging.INFO)


class _Console(logging.StreamHandler[Any]):
    """Print the message alone.

    It looks up sys.stdout for each line, because a test or a caller may have replaced it.
    """

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:
        return sys.stdout

    def emit(self, record: logging.LogRecord) -> None:
        """Print the line; the reason of an early end on standard error, as every job does."""
        if record.levelno >= logging.ERROR:
            print(f"{program_name()}: {record.getMessage()}", file=sys.stderr)
        else:
            super().emit(record)

    def format(self, record: logging.LogRecord) -> str:
        """Return the line in characters that the stream can encode."""
        encoding = getattr(self.stream, "encoding", None) or "utf-8"
        return super().format(record).encode(encoding, errors="replace").decode(encoding)

    def handleError(self, record: logging.LogRecord) -> None:
        """Print nothing more once nobody reads: `| head` has ended, or the terminal is closed. The work continues."""
        if isinstance(sys.exc_info()[1], OSError):
            discard_output()
        else:
            super().handleError(record)


class _File(logging.Handler):
    """Append each line to a file."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self.setFormatter(logging.Formatter("%(asctime)s  %(message)s", "%Y-%m-%d %H:%M:%S"))

    def emit(self, record: logging.LogRecord) -> None:
        # Writing the results to a full disk ends the search with a better message; until then lines are lost.
        with contextlib.suppress(OSError):
            self.append(self.format(record) + "\n")

    def append(self, text: str) -> None:
        """Write at the end of the file. Nothing is held open or buffered in between. Raises OSError."""
        with self._path.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)


def to_console() -> None:
    """Print every line on standard output from now on. A second call changes nothing."""
    if not any(isinstance(handler, _Console) for handler in _PROJECT.handlers):
        _PROJECT.addHandler(_Console())


def open_closed_streams() -> None:
    """Open each standard stream that the caller has closed (`>&-`) on nowhere.

    Otherwise the next file gets its number, and what a library prints is written into that file: the study, say.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            try:
                os.fstat(number)  # taken by a file that an import has opened
            except OSError:
                os.dup2(os.open(os.devnull, os.O_RDWR), number)
            setattr(sys, name, open(os.devnull, "r" if number == 0 else "w", encoding="utf-8"))  # noqa: SIM115


def replace_unknown_characters() -> None:
    """Let what is printed from now on have "?" for each character that the terminal's encoding lacks."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def is_terminal(stream: TextIO) -> bool:
    """True for a stream that is shown on a terminal; False for one that is closed."""
    try:
        return stream.isatty()
    except ValueError:
        return False


def discard_output() -> None:
    """Send standard output to nowhere, also what Python itself flushes at the end."""
    with contextlib.suppress(OSError, ValueError):  # ValueError: a stream without a descriptor, in a notebook
        descriptor = sys.stdout.fileno()
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, descriptor)
        os.close(nowhere)


@contextlib.contextmanager
def kept_in(directory: Path) -> Iterator[None]:
    """Append every line to `directory`/search.log while this is open, with date and time.

    A caller from Python who has set up no logging gets the lines on the console too, for such a job may take hours.

    Raises:
        UserError: the file cannot be written.
    """
    if not _PROJECT.hasHandlers():
        to_console()
    path = directory / LOG
    file = _File(path)
    try:
        file.append("")
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); choose another --results") from error
    _PROJECT.addHandler(file)
    try:
        yield
    finally:
        _PROJECT.removeHandler(file)
