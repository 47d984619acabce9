"""The table of a search's trials, in as many columns as fit on the terminal."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from nmt.io.table import aligned, columns, wrapped
from nmt.training.history import METRIC, decoding_of
from tune.results.layout import PAGE, SUMMARY
from tune.results.summary import Summary, TrialRecord

MAX_ROWS = 20
"""trials in the table; summary.json holds all"""
SHORT = 11
"""columns of a shortened name of a key, and most of a value that is a text"""
GAP = 2
"""columns between two columns"""
OWN = "own"
"""head of the accuracy at the trial's own decoding"""


def trial_table(summary: Summary, *, width: int, order: Sequence[str] = ()) -> str:
    """Return the table of trials, best first. The default configuration is always in it.

    Args:
        width: columns that a line may have.
        order: searched keys, those to show first at the beginning; by default as the space has them.
    """
    if not summary.trials:
        return ""
    ranked = sorted(summary.trials, key=lambda t: (t.accuracy is None, -(t.accuracy or 0.0), t.id))
    shown = ranked[:MAX_ROWS] + [t for t in ranked[MAX_ROWS:] if t is summary.default]
    swept = any(is_swept(key, summary) for key in summary.space)
    head = ["", "trial", "state", "epochs", METRIC.partition("/")[0], *([OWN] if swept else [])]
    rows = [[str(1 + ranked.index(t)), *_row(t, summary, swept=swept)] for t in shown]
    keys = sorted(summary.space, key=lambda key: order.index(key) if key in order else len(order))
    values = {key: [_value(t, key, summary) for t in shown] for key in keys}
    names, dropped = fitting(values, width - sum(_widths([head, *rows])) - GAP * len(head))
    table = [[*head, *names.values()]]
    table += [[*row, *(values[key][i] for key in names)] for i, row in enumerate(rows)]
    hidden = len(ranked) - len(shown)
    notes = [f"... and {hidden} more in {SUMMARY}"] if hidden else []
    notes += [f"{OWN}: val at the trial's own decode.* values, as outside a search"] if swept else []
    notes += (
        [wrapped(f"also: {', '.join(dropped)}; --report writes them to {PAGE}", indent="  ", width=width)]
        if dropped
        else []
    )
    failures = [f"{t.id} failed: {t.reason}" for t in summary.trials if t.reason][:MAX_ROWS]
    return "\n".join([aligned(table, left=3), *notes, *(wrapped(f, indent="  ", width=width) for f in failures)])


def fitting(values: dict[str, list[str]], room: int) -> tuple[dict[str, str], list[str]]:
    """Choose the keys whose columns fit: all with their whole names, or as many as fit with shortened ones.

    Args:
        values: key -> the cells of its column. The first keys are taken first.
        room: columns that are left for them.

    Returns:
        Key -> head of its column, and the keys that have no column.
    """
    keys = list(values)
    whole = {key: short_name(key, keys) for key in keys}
    cells = {key: max(map(columns, values[key]), default=0) for key in keys}
    if sum(max(columns(whole[key]), cells[key]) + GAP for key in keys) <= room:
        return whole, []
    taken, dropped = dict[str, str](), list[str]()
    for key in keys:
        name = abbreviated(whole[key], max(SHORT, cells[key]))
        room -= (need := max(columns(name), cells[key]) + GAP)
        if room >= 0:
            taken[key] = name
        else:
            room += need
            dropped.append(key)
    return taken, dropped


def short_name(key: str, keys: Sequence[str]) -> str:
    """Return the last part of the key, or all of it if that part is not unique."""
    last = key.rpartition(".")[2]
    return last if sum(k.rpartition(".")[2] == last for k in keys) == 1 else key


def abbreviated(name: str, most: int) -> str:
    """Shorten a name to so many characters: each of its words to its beginning, sinkhorn_iterations to sinkh_itera."""
    if len(name) <= most:
        return name
    words = name.split("_")
    letters = max(1, (most - len(words) + 1) // len(words))
    return "_".join(word[:letters] for word in words)[:most]


def is_swept(key: str, summary: Summary) -> bool:
    """True if the key is tried at inference, at no cost."""
    return key.startswith("decode.") and not any(key in t.searched for t in summary.trials)


def shown(value: Any) -> str:
    """Return a value as reports show it."""
    return f"{value:.3g}" if isinstance(value, float) else json.dumps(value) if isinstance(value, list) else str(value)


def _row(trial: TrialRecord, summary: Summary, *, swept: bool) -> list[str]:
    mark = "best" if summary.best and trial.id == summary.best.id else "default" if trial is summary.default else ""
    cells = [f"{trial.id} {mark}".strip(), trial.state, str(trial.epochs), _percent(trial.accuracy)]
    return cells + ([_percent(trial.accuracy_fixed_decode)] if swept else [])


def _value(trial: TrialRecord, key: str, summary: Summary) -> str:
    """Return the cell of a searched key: its value, for a decoding the best one; "-" where the trial has none."""
    swept = is_swept(key, summary)
    value = decoding_of(trial.best).get(key.removeprefix("decode.")) if swept else trial.searched.get(key)
    return "-" if value is None else abbreviated(shown(value), SHORT) if isinstance(value, str) else shown(value)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"


def _widths(rows: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(columns, column)) for column in zip(*rows, strict=True)]
