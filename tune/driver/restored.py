"""Restore what a resumed search lost: its study, and the record of its last summary."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from nmt.errors import UserError
from nmt.training.files import CHECKPOINT, METRICS
from nmt.training.history import Progress, read_metrics, write_metrics
from tune.results.ended import read_ended
from tune.results.layout import BACKUP, DAMAGED, DEFINITION, ENDED, SET_ASIDE, STUDY, SUMMARY, TRIALS
from tune.results.lock import only_one
from tune.results.log import kept_in, log
from tune.results.summary import Summary, load_summary
from tune.spaces.settings import SearchSettings
from tune.spaces.space import Space
from tune.study.restore import Remains, fault_of, restore


def restore_study(space: Space, directory: Path) -> Summary | None:
    """Make the study of an existing search usable, and log a line for each change; nothing for a new search.

    Returns:
        The summary of its last run, if that has left one.

    Raises:
        UserError: it is lost for good, held by another program, or another process runs the search.
    """
    if not (directory / DEFINITION).is_file():
        return None
    summary = last_summary(directory)
    if is_over(summary, space) and fault_of(directory / STUDY, space.name) is None:
        return summary  # perhaps nothing may be written here
    remains = Remains(
        study=directory / STUDY,
        backup=directory / BACKUP,
        trials=directory / TRIALS,
        damaged=DAMAGED,
        set_aside=directory / SET_ASIDE,
        records=_records(summary, directory),
        finished=summary is not None and summary.finished,
    )
    with only_one(directory), kept_in(directory):
        for folder in sorted((directory / TRIALS).glob("*")):
            mend_metrics(folder)
        for line in restore(remains, space):
            log.info(line)
    return summary


def is_over(summary: Summary | None, space: Space) -> bool:
    """True if nothing is left to train: the search has finished with this budget."""
    now = space.to_dict()["search"]
    # A summary may be older than some keys; these get their defaults.
    later = {name: getattr(SearchSettings(), name) for name in ("keep", "reselect")}
    return summary is not None and summary.finished and later | summary.search == now


def _records(summary: Summary | None, directory: Path) -> dict[int, dict[str, Any]]:
    """Return the record of each trial in the summary, completed by the record of its end in its folder."""
    records = {int(t.id): dataclasses.asdict(t) for t in summary.trials} if summary else {}
    for folder in (path for path in (directory / TRIALS).glob("*") if path.name.isdecimal()):
        if (ended := read_ended(folder)) is not None:
            known = records.setdefault(int(folder.name), {})
            known |= {"state": ended.state, "reason": ended.reason, "ended": True}
    return records


def mend_metrics(folder: Path) -> None:
    """Write damaged metrics of a trial anew from the record of its end, or from its checkpoint; log a line.

    Metrics that differ from the record of the trial's end are damaged too.

    Raises:
        UserError: they are damaged, and there is neither.
    """
    from nmt import checkpoint

    damage: UserError | None = None
    try:
        history = read_metrics(folder)
    except UserError as error:
        damage, history = error, []
    if (ended := read_ended(folder)) is not None:
        if damage is None and json.dumps(history) == json.dumps(ended.history):  # as text, where NaN equals NaN
            return
        progress, source = Progress(history=[dict(metrics) for metrics in ended.history]), ENDED
    elif damage is None:
        return
    else:
        try:
            progress, source = Progress(**checkpoint.load(folder / CHECKPOINT)["progress"]), CHECKPOINT
        except (UserError, KeyError, TypeError):
            raise damage from None
    write_metrics(folder, progress)
    log.info(f"{folder / METRICS}: damaged, and written anew from {source} beside it")


def last_summary(directory: Path) -> Summary | None:
    """Return the summary of an earlier run; None without one that can be read, for it is made from the study."""
    if not (directory / SUMMARY).is_file():
        return None
    try:
        return load_summary(directory)
    except UserError as error:
        log.info(f"{error}; it is written anew")
        return None
