"""When each trial trained, read from the lines of search.log and the times of its epochs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tune.page.trials import Shown
from tune.results.layout import LOG

_LINE = re.compile(
    r"^\S+ \S+ +(?P<at>\d+(?:\.\d+)?) s  (?P<trial>\d{3,})  (?:paused at|COMPLETE|PRUNED|FAIL) +(?P<epoch>\d+) of \d+ "
)


@dataclass(frozen=True)
class Span:
    """One job of a trial: it trained from one rung to the next."""

    trial: str
    start: float
    """seconds of the search"""
    end: float
    first: int
    """the first epoch that it trained"""
    last: int


def spans(trials: Sequence[Shown], directory: Path) -> list[Span]:
    """Return the jobs that have ended, in the order of their ends; none if the log is not there.

    A job's end is the time of its line in the log. Its start is as much earlier as its epochs took to train.
    """
    try:
        lines = (directory / LOG).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    known = {trial.id: trial for trial in trials}
    done, found = dict[str, int](), []
    for match in filter(None, map(_LINE.match, lines)):
        trial, end, last = known.get(match["trial"]), float(match["at"]), int(match["epoch"])
        before = done.get(match["trial"], 0)
        if trial is None or last not in trial.seconds or last <= before:
            continue
        taken = trial.seconds[last] - trial.seconds.get(before, 0.0)
        found.append(Span(trial.id, max(end - taken, 0.0), end, before + 1, last))
        done[trial.id] = last
    return found
