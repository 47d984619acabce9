"""Run a program in a terminal of its own, and see what a person sees there."""

from __future__ import annotations

import codecs
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

_PART = re.compile(r"\x1b\[([?\d;]*)([A-Za-z])|(\r)|(\n)|([^\x1b\r\n]+)")


@dataclass
class Screen:
    """The lines of a terminal that knows what rich writes: text, colours, cursor up, erased lines, a cleared screen.

    Lines that have scrolled away are kept.
    """

    columns: int
    rows: int
    lines: list[str] = field(default_factory=lambda: [""])
    row: int = 0
    column: int = 0
    controls: set[str] = field(default_factory=set)
    """control sequences that were met, without colours"""

    def feed(self, text: str) -> None:
        """Take over what a program has written."""
        for numbers, letter, back, down, plain in _PART.findall(text):
            if letter:
                self._control(numbers, letter)
            elif back:
                self.column = 0
            elif down:
                self._go_down()
            else:
                self._write(plain)

    def _control(self, numbers: str, letter: str) -> None:
        if letter == "m":
            return
        self.controls.add(numbers + letter)
        top = max(0, len(self.lines) - self.rows)
        if letter == "A":
            self.row = max(top, self.row - int(numbers or 1))
        elif letter == "K" and numbers == "2":
            self.lines[self.row] = ""
        elif letter == "J" and numbers == "2":
            self.lines[top:] = [""] * (len(self.lines) - top)
        elif letter == "H":
            self.row, self.column = top, 0
        else:
            raise AssertionError(f"a control sequence that no test expects: {numbers}{letter}")

    def _go_down(self) -> None:
        self.row += 1
        if self.row == len(self.lines):
            self.lines.append("")

    def _write(self, text: str) -> None:
        for character in text:
            if self.column == self.columns:
                self._go_down()
                self.column = 0
            line = self.lines[self.row].ljust(self.column)
            self.lines[self.row] = line[: self.column] + character + line[self.column + 1 :]
            self.column += 1

    @property
    def text(self) -> str:
        """All lines."""
        return "\n".join(line.rstrip() for line in self.lines).rstrip()


class Terminal:
    """A program in a terminal that controls it, as in a shell.

    Args:
        environment: variables beside those of this process.
    """

    def __init__(
        self, command: Sequence[str], *, columns: int = 80, rows: int = 24, environment: Mapping[str, str]
    ) -> None:
        self.screen, self.written, self._rest = Screen(columns, rows), b"", ""
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._master, slave = pty.openpty()
        self.resize(columns, rows)
        left_out = ("CI", "COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR")
        kept = {name: value for name, value in os.environ.items() if name not in left_out}
        # A child that takes the terminal as its own: the slave is its controlling terminal, and it the foreground.
        take = (
            "import fcntl, os, sys, termios as t; fcntl.ioctl(0, t.TIOCSCTTY, 0); os.execvp(sys.argv[1], sys.argv[1:])"
        )
        started = [sys.executable, "-c", take, *command]
        self.process = subprocess.Popen(
            started,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**kept, "TERM": "xterm", **environment},
            start_new_session=True,
        )
        os.close(slave)

    def resize(self, columns: int, rows: int) -> None:
        """Set the size of the terminal; the program is told."""
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.screen.columns, self.screen.rows = columns, rows

    def press(self, key: bytes) -> None:
        """Type a key, such as b"\\x03" for Ctrl-C."""
        os.write(self._master, key)

    def read_until(self, seen: Callable[[Screen], bool] = lambda screen: False, *, seconds: float = 120.0) -> Screen:
        """Follow the output until the screen is as wanted, or the program has ended."""
        end = time.monotonic() + seconds
        while not seen(self.screen):
            if time.monotonic() > end:
                raise AssertionError(f"not seen in {seconds:.0f} s:\n{self.screen.text}")
            if not select.select([self._master], [], [], 0.2)[0]:
                continue
            try:
                part = os.read(self._master, 1 << 16)
            except OSError:  # the program has closed its terminal
                part = b""
            if not part:
                return self.screen
            self.written += part
            text = self._rest + self._decoder.decode(part)
            begun = re.search(r"\x1b(\[[?\d;]*)?$", text)  # a control sequence that the next part continues
            self._rest = begun[0] if begun else ""
            self.screen.feed(text.removesuffix(self._rest))
        return self.screen

    def close(self) -> None:
        """Close the terminal, as its window is closed."""
        os.close(self._master)

    def end(self) -> int:
        """Read the rest, and return the exit status."""
        self.read_until()
        self.close()
        return self.process.wait(timeout=60)
