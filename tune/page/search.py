"""The page's content for one search: what it asked, what it found, and its plots."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nmt.training.history import METRIC, decoding_of
from tune.evidence.confirmed import Confirmed
from tune.page import search_plots, space_plots, winner_plots
from tune.page.figures import Gallery, Plot
from tune.page.look import look_at
from tune.page.timeline import spans
from tune.page.trials import STATES, Shown, rungs_of, searched_keys, short_names, shown_trials, word
from tune.results.commands import next_commands
from tune.results.histories import read_histories
from tune.results.importance import MIN_TRIALS, search_importance
from tune.results.luck import luck_of
from tune.results.summary import Summary, TrialRecord
from tune.results.trial_table import is_swept
from tune.spaces.settings import limits_in_words

NO_IMPORTANCE = f"Importance needs {MIN_TRIALS} trials with different results, and keys with two values or more."


def search_content(
    summary: Summary, directory: Path, gallery: Gallery, confirmed: Confirmed | None = None, *, commands: bool = True
) -> dict[str, Any]:
    """Return what the template shows of a search.

    Args:
        directory: results/NAME, with the folders of the trials.
        confirmed: its confirmation, if there is one.
        commands: also list the commands to run next.
    """
    histories = read_histories(summary, directory)
    trials, rungs = shown_trials(summary, histories, directory), rungs_of(summary)
    best, important = summary.best, search_importance(summary, directory, histories=histories.epochs)
    winner = look_at(summary, directory, gallery)
    luck = luck_of(summary.tried, confirmed.accuracies if confirmed else ())
    return {
        "name": summary.name,
        "description": summary.description,
        "facts": _facts(summary, trials),
        "asked": _asked(summary),
        "space": _space(summary),
        "states": {state: count for state in STATES if (count := sum(t.state == state for t in trials))},
        "unfinished": not summary.finished,
        "best": best.id if best else None,
        "accuracy": _percent(best.accuracy if best else None),
        "default_accuracy": _percent(summary.default_accuracy),
        "gain": f"{summary.gain_points:.1f}" if summary.gain_points is not None else None,
        "default_won": best is not None and best is summary.default,
        "luck": luck,
        "table": _leaderboard(summary, trials, confirmed),
        "pareto": _pareto(summary),
        "went": _how_it_went(gallery, trials, rungs, best.id if best else None),
        "importance": space_plots.importance(gallery, important) if important.keys else None,
        "no_importance": NO_IMPORTANCE,
        "keys": _key_plots(gallery, trials, summary, rungs),
        "rungs": _rungs(gallery, trials, rungs),
        "winner": winner,
        "categories": _categories(gallery, summary),
        "timeline": _timeline(gallery, trials, directory, rungs),
        "failures": [(t.id, t.reason) for t in trials if t.reason],
        "damaged": histories.damaged,
        "commands": next_commands(summary, directory) if commands else [],
    }


def _percent(value: float | None) -> str | None:
    return f"{100 * value:.1f} %" if value is not None else None


def _facts(summary: Summary, trials: Sequence[Shown]) -> dict[str, str]:
    """Return the figures at the top of the page."""
    epochs, full = sum(t.epochs for t in trials), len(trials) * summary.epochs
    gain, best = summary.gain_points, summary.best
    facts = {
        "best val/accuracy": _percent(best.accuracy if best else None) or "-",
        "default configuration": _percent(summary.default_accuracy) or "-",
        "difference in points": f"{gain:+.1f}" if gain is not None else "-",
        "trials": str(len(trials)),
        f"epochs trained, of {full} if all were trained in full": str(epochs),
        "on the clock": duration(summary.seconds),
    }
    if summary.gpu_hours:
        facts["GPU-hours"] = f"{summary.gpu_hours:.2f}"
    return facts


def duration(seconds: float) -> str:
    """Return a time in the unit that suits it."""
    if seconds >= 5400:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 60:.1f} min" if seconds >= 90 else f"{seconds:.0f} s"


def _asked(summary: Summary) -> dict[str, str]:
    """Return what the search was asked for."""
    search, resources = summary.search, summary.resources
    rungs = rungs_of(summary)
    compared = f", compared after {', '.join(map(str, rungs[:-1]))} of {summary.epochs} epochs" if rungs[1:] else ""
    gpus = f", {resources['gpus']:g} GPUs" if resources["gpus"] else ""
    asked = {
        "data set": summary.data + ("" if summary.has_test else " (no test split)"),
        "budget": f"{limits_in_words(search)}; {summary.epochs} epochs each at most",
        "sampler": f"{search['sampler']}, seed {search['seed']}",
        "scheduler": search["scheduler"] + compared,
        "a trial takes": f"{_many(resources['workers'], 'worker')} of {_many(resources['cpus'], 'CPU core')}{gpus}",
    }
    if len(search.get("objectives", [METRIC])) > 1:
        asked["objectives"] = ", ".join(search["objectives"])
    return asked


def _many(count: int, noun: str) -> str:
    """Return a number with its noun."""
    return f"{count} {noun}{'s' * (count != 1)}"


def _space(summary: Summary) -> list[dict[str, Any]]:
    """Return a row for each searched key: its range, and its value in the default and the best configuration."""
    return [
        {
            "key": key,
            "range": words,
            "free": is_swept(key, summary),
            "default": _of_default(key, summary.default),
            "best": _of_best(key, summary.best),
        }
        for key, words in summary.space.items()
    ]


def _of_default(key: str, trial: TrialRecord | None) -> str:
    """Return the value of a key in the default configuration, decode keys as configured."""
    branch, _, field = key.partition(".")
    return word(trial.configuration[branch][field]) if trial is not None else "-"


def _of_best(key: str, trial: TrialRecord | None) -> str:
    """Return the value of a key in the best configuration, decode keys as its best epoch read them."""
    if trial is None:
        return "-"
    branch, _, field = key.partition(".")
    decode = decoding_of(trial.best) if branch == "decode" else {}
    return word(decode.get(field, trial.configuration[branch][field]))


def _leaderboard(summary: Summary, trials: Sequence[Shown], confirmed: Confirmed | None) -> dict[str, Any]:
    """Return heads and rows of the table of trials, best first; a cell is its text and what it is sorted by."""
    records = {t.id: t for t in summary.trials}
    keys, repeated = searched_keys(summary), {}
    if confirmed is not None:
        repeated = {c.name: c for c in (confirmed.default, *confirmed.candidates)}
    free = any(is_swept(key, summary) for key in summary.space)
    heads = ["", "trial", "state", "epochs", METRIC]
    heads += (["at own decode"] if free else []) + (["over seeds", "to the default"] if repeated else [])
    heads += ["seconds", *(short_names(keys)[key] for key in keys)]
    order = sorted(trials, key=lambda t: (t.best is None, -(t.best or 0.0), t.number))
    rows = []
    for trial in order:
        record, again = records.get(trial.id), repeated.get(trial.id)
        mark = "best" if summary.best and trial.id == summary.best.id else "default" if trial.number == 0 else ""
        cells: list[tuple[str, Any]] = [(mark, mark), (trial.id, trial.number), (trial.state, trial.state)]
        cells += [(str(trial.epochs), trial.epochs), _cell(trial.best)]
        cells += [_cell(record.accuracy_fixed_decode if record else None)] if free else []
        cells += _over_seeds(again, confirmed) if confirmed is not None else []
        seconds = max(trial.seconds.values(), default=record.seconds if record else 0.0)
        cells.append((f"{seconds:.1f}", seconds))
        cells += [(word(trial.searched[k]), trial.searched[k]) if k in trial.searched else ("-", "") for k in keys]
        rows.append({"mark": mark, "cells": cells})
    return {"heads": heads, "rows": rows}


def _pareto(summary: Summary) -> dict[str, Any] | None:
    """Return heads and rows of the trials to choose from; None for a single objective."""
    names = summary.search.get("objectives", [METRIC])
    if len(names) < 2 or not summary.pareto:
        return None
    rows = [[t.id, _percent(t.objectives[METRIC]), *(word(t.objectives[n]) for n in names[1:])] for t in summary.pareto]
    return {"heads": ["trial", *names], "rows": rows}


def _cell(value: float | None) -> tuple[str, Any]:
    return (_percent(value) or "-", value if value is not None else "")


def _over_seeds(again: Any, confirmed: Confirmed) -> list[tuple[str, Any]]:
    """Return the cells of a trial that was trained again over seeds: its mean, and its difference with interval."""
    from tune.results.table import points, with_interval

    if again is None:
        return [("", ""), ("", "")]
    mean, difference = again.accuracy, confirmed.differences.get(again.name)
    cells: list[tuple[str, Any]] = [(f"{with_interval(mean)} %" if mean else "-", mean.mean if mean else "")]
    return [*cells, (points(difference), difference.mean) if difference else ("", "")]


def _how_it_went(gallery: Gallery, trials: Sequence[Shown], rungs: list[int], best: str | None) -> list[Plot]:
    """Return the plots of the history and of the curves; none while no trial has a value."""
    if not any(t.values for t in trials):
        return []
    return [search_plots.history(gallery, trials, best), search_plots.curves(gallery, trials, rungs, best)]


def _key_plots(gallery: Gallery, trials: Sequence[Shown], summary: Summary, rungs: list[int]) -> list[Plot]:
    """Return the plots of the searched keys; none while no trial has a value, or if no key is searched."""
    if not any(t.searched and t.best is not None for t in trials):
        return []
    best = summary.best.id if summary.best else None
    return [draw(gallery, trials, summary, rungs, best) for draw in (space_plots.parallel, space_plots.slices)]


def _rungs(gallery: Gallery, trials: Sequence[Shown], rungs: list[int]) -> dict[str, Any] | None:
    """Return the table and the plot of the rungs; None for a search without early stopping."""
    if len(rungs) < 2:
        return None
    rows, spread = [], []
    for rung in rungs:
        reached = [t for t in trials if rung in t.values]
        further = sum(t.epochs > rung for t in reached)
        rows.append((rung, len(reached), further, len(reached) - further))
        values = sorted(t.values[rung] for t in reached)
        shown = [values[0], values[len(values) // 2], values[-1]] if values else []
        spread.append([_percent(value) for value in shown] or ["-"] * 3)
    return {
        "plot": search_plots.survival(gallery, rows),
        "rows": [(*row, *s) for row, s in zip(rows, spread, strict=True)],
    }


def _categories(gallery: Gallery, summary: Summary) -> Plot | None:
    """Return the plot of the categories; None if the default won or a result is missing."""
    best, default = summary.best, summary.default
    if best is None or default is None or best is default:
        return None
    prefix = f"{METRIC}/"
    mine, its = (
        {k.removeprefix(prefix): v for k, v in t.best.items() if k.startswith(prefix)} for t in (best, default)
    )
    return winner_plots.categories(gallery, mine, its, best.id) if mine.keys() & its.keys() else None


def _timeline(gallery: Gallery, trials: Sequence[Shown], directory: Path, rungs: list[int]) -> Plot | None:
    """Return the plot of the time; None without the lines of the log."""
    found = spans(trials, directory)
    return search_plots.timeline(gallery, found, trials, rungs) if found else None
