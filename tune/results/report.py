"""The report of a search: the table and the verdict printed from summary.json.

Imports neither Ray nor Optuna: `--report` reads the file alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nmt.io.table import aligned, columns, line_width, wrapped
from nmt.training.history import METRIC, decoding_of
from tune.results.commands import Command, next_commands
from tune.results.importance import Importance, search_importance
from tune.results.luck import Luck, luck_of
from tune.results.summary import Summary, TrialRecord, mean_accuracy
from tune.results.trial_table import is_swept, shown, trial_table
from tune.spaces.settings import limits_in_words

SOLVED = 0.9995
"""accuracy that is printed as 100.0 %"""


def render(
    summary: Summary,
    directory: Path,
    *,
    trials: Path | None = None,
    advice: bool = True,
    width: int | None = None,
    repeated: Sequence[Sequence[float]] = (),
) -> str:
    """Return the report: the searched keys, the trials, the winner and its gain.

    Args:
        directory: results/NAME, for the commands.
        trials: the folder with the folder `trials`, for the importance of the keys; by default `directory`.
        advice: also list the commands to run next.
        width: columns that a line may have; by default those of the terminal.
        repeated: accuracies over seeds of each configuration of its confirmation, to measure the noise by.
    """
    width = width or line_width()
    found = search_importance(summary, trials or directory)
    order = [influence.key for influence in found.keys]
    parts = [_head(summary, width), trial_table(summary, width=width, order=order), _pareto(summary)]
    parts += [_verdict(summary, luck_of(summary.tried, repeated), width), importance_line(found, width=width)]
    parts += [_next(summary, directory, width)] if advice else []
    return "\n\n".join(part for part in parts if part)


def _head(summary: Summary, width: int) -> str:
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
    swept = [key for key in summary.space if is_swept(key, summary)]
    longest = 4 + max(map(columns, summary.space), default=0)
    space = [
        wrapped(f"  {key:{longest - 4}}  {words}{' *' * (key in swept)}", indent=" " * longest, width=width)
        for key, words in summary.space.items()
    ]
    notes = ["  * read at inference, at no cost: every value is tried in each trial"] if swept else []
    return "\n".join([*(wrapped(line, indent="  ", width=width) for line in lines), *space, *notes])


def _spent(summary: Summary) -> str:
    """Return the line on the cost, its limit, and what training every configuration in full would have cost."""
    epochs, full = sum(t.epochs for t in summary.trials), len(summary.trials) * summary.epochs
    share = f" ({epochs / full:.0%} of {full}, all in full)" if full else ""
    hours = f"{summary.seconds / 3600:.2f} hours" if summary.seconds >= 3600 else f"{summary.seconds:.0f} s"
    gpu = f", {summary.gpu_hours:.2f} GPU-hours" if summary.gpu_hours else ""
    end = "" if summary.finished else "; not finished"
    return f"spent {epochs} epochs{share}, {hours}{gpu}; limit {limits_in_words(summary.search)}{end}"


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


def _verdict(summary: Summary, luck: Luck | None, width: int) -> str:
    best, gain = summary.best, summary.gain_points
    if best is None or best.accuracy is None:
        return "No trial has completed its epochs: there is no winner yet."
    over = f" over {summary.val_pairs} pairs" if summary.val_pairs else ""
    line = f"Best: trial {best.id}, {METRIC} {100 * best.accuracy:.1f} %{over} at epoch {best.best['epoch']}"
    default = summary.default
    if gain is None or default is None or summary.default_accuracy is None:
        return f"{line}. The default configuration (trial 000) has no result to compare with."
    line += f"; default configuration (trial {default.id}): {100 * summary.default_accuracy:.1f} %"
    if default.accuracy is not None and default.accuracy > summary.default_accuracy:
        line += f" ({100 * default.accuracy:.1f} % at its best decoding)"
    lines = [f"{line}. Difference: {gain:+.1f} points.", *_reselected(summary), *_significance(summary, gain, luck)]
    lines += _ceiling(summary)
    changes = _changes(best, default, summary)
    lines += [f"Changed: {changes}"] if changes else []
    return "\n".join(wrapped(line, indent="  ", width=width) for line in lines)


def _reselected(summary: Summary) -> list[str]:
    """Return the line on the means that named the winner; none without `[search] reselect`."""
    if not summary.reselected:
        return []
    shown = [
        f"{'/'.join(t.id for t in several)} {100 * mean_accuracy(several):.1f} % "
        f"({', '.join(f'{100 * (t.accuracy or 0.0):.1f}' for t in several)})"
        for several in summary.reselected
    ]
    return [
        f"Named by the mean over seeds, trained again at the end: {', '.join(shown)}. The difference is that mean's."
    ]


def _ceiling(summary: Summary) -> list[str]:
    """Return the line on a validation that the best trials solve: it cannot order them."""
    solved = sum(t.accuracy is not None and t.accuracy >= SOLVED for t in summary.trials)
    if not solved:
        return []
    over = f" of {summary.val_pairs} pairs" if summary.val_pairs else ""
    trials = "1 trial solves" if solved == 1 else f"{solved} trials solve"
    return [
        f"{trials} the validation{over} (100.0 %), so it cannot tell better ones apart: give it more or harder pairs."
    ]


def _significance(summary: Summary, gain: float, luck: Luck | None) -> list[str]:
    """Return the lines on whether the difference could be luck: that of the best of so many trials."""
    assert summary.best is not None and summary.best.accuracy is not None
    if summary.best is summary.default or luck is None:
        return ["The default configuration won."]
    chance = (
        f"Luck alone: {luck.points:+.1f} points expected of the best of {luck.trials} equal trials, over "
        f"{luck.limit:+.1f} in 1 search of 20 (noise of {luck.deviation:.1f} points over seeds: {luck.source})."
    )
    if gain <= luck.limit:
        return [chance, "So the gain may be luck: no proof of a better configuration."]
    best = 100 * summary.best.accuracy
    rivals = sum(best - 100 * t.accuracy < luck.pair for t in summary.trials if t.accuracy is not None) - 1
    others = f"{rivals} other trials are" if rivals > 1 else "one other trial is" if rivals else "no other trial is"
    return [chance, f"With it the gain is more than luck; {others} within noise of the best ({luck.pair:.1f} points)."]


def _changes(best: TrialRecord, default: TrialRecord, summary: Summary) -> str:
    """List the winner's values that differ from the default configuration, decode included."""
    before = default.searched | {f"decode.{k}": v for k, v in default.configuration["decode"].items()}
    after = best.searched | {f"decode.{k}": v for k, v in decoding_of(best.best).items()}
    before = {k: before.get(k, default.configuration[k.partition(".")[0]][k.partition(".")[2]]) for k in after}
    changed = [k for k in summary.space if k in after and after[k] != before[k]]
    return ", ".join(f"{k} {shown(before[k])} -> {shown(after[k])}" for k in changed)


def importance_line(found: Importance, *, width: int) -> str:
    """Return the line on the most important parameter; empty for too few trials."""
    if not found.keys:
        return ""
    first, *others = found.keys
    what = (
        f"{first.key} explains {100 * first.share:.0f} % of the differences between {found.trials} trials at epoch "
        f"{found.epoch} (95 % interval {100 * first.low:.0f} to {100 * first.high:.0f} %)"
    )
    if not first.told_from_noise:
        line = f"Most important: no key can be told from noise yet. {what}; more trials may show it."
        return wrapped(line, indent="  ", width=width)
    also = [f"{k.key} ({100 * k.share:.0f} %)" for k in others if k.told_from_noise]
    noise = [k.key for k in others if not k.told_from_noise]
    rest = f"; then {', '.join(also)}" if also else ""
    rest += f". Not told from noise: {', '.join(noise)}" if noise else ""
    return wrapped(f"Most important: {what}{rest}.", indent="  ", width=width)


def _next(summary: Summary, directory: Path, width: int) -> str:
    return commands_list(next_commands(summary, directory), width=width)


def commands_list(commands: Sequence[Command], *, width: int) -> str:
    """Return commands to run next, none of them broken: each with its purpose behind it, or above if that is long."""
    lines = ["Next:"]
    for command, why in commands:
        line = f"  {command}  # {why}"
        lines += [line] if columns(line) <= width else [f"  # {why}", f"  {command}"]
    return "\n".join(lines)
