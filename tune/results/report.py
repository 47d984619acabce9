"""The report of a search: the table and the verdict printed from summary.json.

Imports neither Ray nor Optuna: `--report` reads the file alone.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nmt.io.table import aligned
from nmt.training.history import METRIC, decoding_of
from tune.results.commands import next_commands
from tune.results.layout import SUMMARY
from tune.results.summary import Summary, TrialRecord
from tune.spaces.settings import limits_in_words

NOISE_POINTS = 2.0
"""largest difference, in percentage points, between trainings that differ in the seed alone; less is not a gain"""
MAX_ROWS = 20
"""trials in the table; summary.json holds all"""


def render(summary: Summary, directory: Path, *, advice: bool = True) -> str:
    """Return the report: the searched keys, the trials, the winner and its gain.

    Args:
        directory: results/NAME, for the commands.
        advice: also list the commands to run next.
    """
    parts = [_head(summary), _table(summary), _pareto(summary), _verdict(summary)]
    parts += [_next(summary, directory)] if advice else []
    return "\n\n".join(part for part in parts if part)


def _head(summary: Summary) -> str:
    """Return the lines on what was searched and what it cost."""
    search, states = summary.search, [t.state for t in summary.trials]
    words = {"COMPLETE": "complete", "PRUNED": "stopped early", "FAIL": "failed"}
    counts = ", ".join(f"{states.count(state)} {word}" for state, word in words.items())
    settings = f"sampler {search['sampler']}, scheduler {search['scheduler']}, seed {search['seed']}"
    lines = [
        f"Search {summary.name}" + (f": {summary.description}" if summary.description else ""),
        f"{len(states)} trials ({settings}): {counts}",
        _spent(summary),
    ]
    notes = {
        key: " (read at inference: every value is tried in each trial)" for key in summary.space if _free(key, summary)
    }
    space = [[f"  {key}", words, notes.get(key, "")] for key, words in summary.space.items()]
    return "\n".join([*lines, aligned(space, left=3)])


def _spent(summary: Summary) -> str:
    """Return the line on the cost, its limit, and what training every configuration in full would have cost."""
    epochs, full = sum(t.epochs for t in summary.trials), len(summary.trials) * summary.epochs
    share = f" ({epochs / full:.0%} of {full}, all in full)" if full else ""
    hours = f"{summary.seconds / 3600:.2f} hours" if summary.seconds >= 3600 else f"{summary.seconds:.0f} s"
    gpu = f", {summary.gpu_hours:.2f} GPU-hours" if summary.gpu_hours else ""
    end = "" if summary.finished else "; not finished"
    return f"spent {epochs} epochs{share}, {hours}{gpu}; limit {limits_in_words(summary.search)}{end}"


def _free(key: str, summary: Summary) -> bool:
    """True if the key is tried at inference, at no cost."""
    return key.startswith("decode.") and not any(key in t.searched for t in summary.trials)


def _table(summary: Summary) -> str:
    """Return the table of trials, best first. The default configuration is always in it."""
    if not summary.trials:
        return ""
    order = sorted(summary.trials, key=lambda t: (t.accuracy is None, -(t.accuracy or 0.0), t.id))
    shown = order[:MAX_ROWS] + [t for t in order[MAX_ROWS:] if t is summary.default]
    keys = list(summary.space)
    # Every trial tries all decodings. Its own one makes trials comparable with a training outside the search.
    fixed = ["at its own decode"] if any(_free(k, summary) for k in keys) else []
    rows = [["", "trial", "state", "epochs", METRIC, *fixed, "seconds", *(_short(k, keys) for k in keys)]]
    rows += [_row(t, summary, keys) for t in shown]
    hidden = len(order) - len(shown)
    failures = [f"{t.id} failed: {t.reason}" for t in summary.trials if t.reason]
    more = [f"... and {hidden} more in {SUMMARY}"] if hidden else []
    return "\n".join([aligned(rows, left=3), *more, *failures[:MAX_ROWS]])


def _row(trial: TrialRecord, summary: Summary, keys: Sequence[str]) -> list[str]:
    decode = decoding_of(trial.best)
    values = [decode.get(k.removeprefix("decode.")) if _free(k, summary) else trial.searched.get(k) for k in keys]
    fixed = trial.accuracy_fixed_decode
    accuracy = "-" if trial.accuracy is None else f"{100 * trial.accuracy:.1f} %"
    mark = "best" if summary.best and trial.id == summary.best.id else "default" if trial is summary.default else ""
    cells = [mark, trial.id, trial.state, str(trial.epochs), accuracy]
    if any(_free(k, summary) for k in keys):
        cells.append("-" if fixed is None else f"{100 * fixed:.1f} %")
    cells.append(f"{trial.seconds:.1f}")
    return cells + ["-" if v is None else _shown(v) for v in values]


def _pareto(summary: Summary) -> str:
    """Return the table of trials to choose from; empty for a single objective."""
    names = summary.search.get("objectives", [METRIC])
    if len(names) < 2 or not summary.pareto:
        return ""
    rows = [["trial", *names]]
    rows += [
        [t.id, f"{100 * t.objectives[METRIC]:.1f} %", *(f"{t.objectives[n]:.4g}" for n in names[1:])]
        for t in summary.pareto
    ]
    head = f"Pareto set: the {len(rows) - 1} complete trials that none beats in one objective without losing in another"
    return "\n".join([head, aligned(rows, left=0)])


def _short(key: str, keys: Sequence[str]) -> str:
    """Return the last part of the key, or all of it if that part is not unique."""
    last = key.rpartition(".")[2]
    return last if sum(k.rpartition(".")[2] == last for k in keys) == 1 else key


def _shown(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else json.dumps(value) if isinstance(value, list) else str(value)


def _verdict(summary: Summary) -> str:
    best, gain = summary.best, summary.gain_points
    if best is None or best.accuracy is None:
        return "No trial has completed its epochs: there is no winner yet."
    line = f"Best: trial {best.id}, {METRIC} {100 * best.accuracy:.1f} % at epoch {best.best['epoch']}"
    default = summary.default
    if gain is None or default is None or summary.default_accuracy is None:
        return f"{line}. The default configuration (trial 000) has no result to compare with."
    line += f"; default configuration (trial {default.id}): {100 * summary.default_accuracy:.1f} %"
    if default.accuracy is not None and default.accuracy > summary.default_accuracy:
        line += f" ({100 * default.accuracy:.1f} % at its best decoding)"
    lines = [f"{line}. Difference: {gain:+.1f} points.", _significance(summary, gain)]
    changes = _changes(best, default, summary)
    return "\n".join(lines + ([f"Changed: {changes}"] if changes else []))


def _significance(summary: Summary, gain: float) -> str:
    """Return the line on whether the difference could be noise."""
    assert summary.best is not None and summary.best.accuracy is not None
    if summary.best is summary.default:
        return "The default configuration won."
    if not gain >= NOISE_POINTS:
        return f"That is within noise (under {NOISE_POINTS:g} points at one seed): no proof of a better configuration."
    rivals = sum(100 * (summary.best.accuracy - t.accuracy) < NOISE_POINTS for t in summary.trials if t.accuracy) - 1
    others = f"{rivals} other trials are" if rivals > 1 else "one other trial is" if rivals else "no other trial is"
    return f"Differences under {NOISE_POINTS:g} points at one seed are noise: {others} that close to the best."


def _changes(best: TrialRecord, default: TrialRecord, summary: Summary) -> str:
    """List the winner's values that differ from the default configuration, decode included."""
    before = default.searched | {f"decode.{k}": v for k, v in default.configuration["decode"].items()}
    after = best.searched | {f"decode.{k}": v for k, v in decoding_of(best.best).items()}
    before = {k: before.get(k, default.configuration[k.partition(".")[0]][k.partition(".")[2]]) for k in after}
    changed = [k for k in summary.space if k in after and after[k] != before[k]]
    return ", ".join(f"{k} {_shown(before[k])} -> {_shown(after[k])}" for k in changed)


def _next(summary: Summary, directory: Path) -> str:
    return "\n".join(["Next:"] + [f"  {command}  # {why}" for command, why in next_commands(summary, directory)])
