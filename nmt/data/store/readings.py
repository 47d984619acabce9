"""Who has read the test split of a data set: test_readings.jsonl beside its files, one line per reading.

A split that is read often is no unseen data any more: one of many configurations looks good on it by luck. So each
evaluation on test adds a line here, and the job prints all of them. The file is no part of the data set: neither its
manifest nor its identity covers it. Of a data set at an address, each machine counts its own readings, in its copy.
"""

from __future__ import annotations

import datetime
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from nmt.errors import UserError, one_line
from nmt.io.files import file_lock

READINGS_FILE = "test_readings.jsonl"
_LOCK_FILE = ".readings.lock"
_SHOWN = 5
"""results that the sentence names, the latest"""


@dataclass(frozen=True)
class Reading:
    """One evaluation of one or more trainings of a configuration on the test split."""

    result: str
    """name of the search, training or configuration: demo/007"""
    date: str
    """YYYY-MM-DD"""
    weights: tuple[str, ...]
    """hashes of the weights that were evaluated, sorted"""


def add_reading(data: Path, result: str, weights: Sequence[str]) -> str:
    """Add a reading to the file of a data set; return a sentence with all of them.

    Where the folder cannot be written, the sentence says so: the evaluation is as good as any.

    Args:
        data: folder of the data set on this machine.
        result: name of what was evaluated.
        weights: hashes of its weights.
    """
    new = Reading(result, datetime.date.today().isoformat(), tuple(sorted(weights)))
    path = data / READINGS_FILE
    try:
        with file_lock(data / _LOCK_FILE), path.open("ab+") as file:
            _close_last_line(path)
            file.write((json.dumps(asdict(new)) + "\n").encode())
    except (OSError, UserError) as error:
        known = [*_readings_or_none(path), new]
        reason = (getattr(error, "strerror", None) or one_line(error)).rstrip(".")
        return f"{_sentence(known, path)}\nwarning: {path}: this reading could not be noted ({reason})"
    return _sentence(read_readings(data), path)


def _close_last_line(path: Path) -> None:
    """End a line that a full disk or a crash has cut off, so that the next one is whole."""
    content = path.read_bytes()
    if content and not content.endswith(b"\n"):
        with path.open("ab") as file:
            file.write(b"\n")


def read_readings(data: Path) -> list[Reading]:
    """Return the readings of the test split of a data set, the first one first.

    A line that is damaged counts as the reading of something unknown. Raises OSError if the file cannot be read.
    """
    path = data / READINGS_FILE
    lines = path.read_text(errors="replace").splitlines() if path.exists() else []
    return [_decoded(line) for line in lines if line.strip()]


def _readings_or_none(path: Path) -> list[Reading]:
    try:
        return read_readings(path.parent)
    except OSError:
        return []


def _decoded(line: str) -> Reading:
    try:
        content = json.loads(line)
        return Reading(str(content["result"]), str(content["date"]), tuple(map(str, content["weights"])))
    except (ValueError, KeyError, TypeError):
        return Reading("a damaged line", "an unknown day", (line,))


def _sentence(readings: Sequence[Reading], path: Path) -> str:
    """Say how often the split was read, by what and when; the same weights are one result, however often read."""
    by_result: dict[tuple[str, ...], list[Reading]] = {}
    for reading in readings:
        by_result.setdefault(reading.weights, []).append(reading)
    latest = sorted(by_result.values(), key=lambda group: readings.index(group[-1]))
    hidden = len(latest) - _SHOWN
    shown = "; ".join(_of_one(group) for group in latest[-_SHOWN:])
    more = f"; {hidden} more in {path}" if hidden > 0 else ""
    times = "once" if len(readings) == 1 else f"{len(readings)} times"
    return f"the test split of {path.parent} has been read {times}: {shown}{more}"


def _of_one(group: Sequence[Reading]) -> str:
    """Name one result and the days on which it was read."""
    days = Counter(reading.date for reading in group)
    text = ", ".join(f"{day} ({count} times)" if count > 1 else day for day, count in days.items())
    names = " = ".join(dict.fromkeys(reading.result for reading in group))
    return f"{names} on {text}" + (" (the same weights)" if len(group) > 1 else "")
