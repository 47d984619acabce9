"""Bring what a training logs about its files to the user: as notes of its trial's events.

The process of a trial prints nothing that the user sees.
"""

from __future__ import annotations

import logging
from pathlib import Path

from tune.jobs.protocol import NOTE


class Notes(logging.Handler):
    """Collect the warnings of this project in this process, while it is open."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._lines: list[str] = []

    def __enter__(self) -> Notes:
        logging.getLogger("nmt").addHandler(self)
        return self

    def __exit__(self, *error: object) -> None:
        logging.getLogger("nmt").removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(record.getMessage())

    def take(self, directory: Path) -> dict[str, str]:
        """Return {NOTE: what was logged about the training in `directory` since the last call}; {} if nothing was."""
        own = [line for line in self._lines if line.startswith(f"{directory}: ")]
        self._lines = [line for line in self._lines if line not in own]
        return {NOTE: "; ".join(line.removeprefix(f"{directory}: ") for line in own)} if own else {}
