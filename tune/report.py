"""What a search found: one record a trial, kept in summary.json, and the table that is printed from it.

Imports neither Ray nor Optuna: `--report` reads the file alone.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nmt.errors import UserError
from nmt.io.files import write_json
from tune.budget import in_words

METRIC = "val/accuracy"
FIXED_METRIC = "val/accuracy_fixed_decode"
NOISE_POINTS = 2.0
"""Two trainings that differ in the seed alone differ by up to this many points; less is not a gain."""
MAX_ROWS = 20


def tell(line: str) -> None:
    """A line for the user. Not `print`: Ray pickles what a search holds, and puts a `print` of its own in its place."""
    print(line)


@dataclass(frozen=True, kw_only=True)
class TrialRecord:
    """One finished trial."""

    id: str
    state: str
    """COMPLETE (full budget), PRUNED (stopped early) or FAIL"""
    searched: dict[str, Any]
    """the searched keys that cost a training, and their values"""
    configuration: dict[str, dict[str, Any]]
    """all of it, nested, as trained"""
    best: dict[str, Any]
    """metrics of the epoch with the highest val/accuracy; empty if no epoch was completed"""
    last: dict[str, Any]
    accuracy_fixed_decode: float | None
    """highest val/accuracy of an epoch at the configuration's own decode setting"""
    epochs: int
    seconds: float
    seed: int
    checkpoint: str | None
    """weights of the best epoch, relative to the search directory"""
    reason: str | None
    """why it failed"""
    objectives: dict[str, float] = dataclasses.field(default_factory=dict)
    """value of each objective at the best epoch"""
    origin: str | None = None
    """the search and trial its configuration comes from, where it was not drawn"""

    @property
    def accuracy(self) -> float | None:
        return self.best.get(METRIC)


@dataclass(frozen=True, kw_only=True)
class Summary:
    """A search so far, or at its end: the content of summary.json."""

    name: str
    description: str
    data: str
    """directory of the data set"""
    space: dict[str, str]
    """searched key -> its range in words"""
    search: dict[str, Any]
    resources: dict[str, Any]
    epochs: int
    """the full budget of a trial"""
    seconds: float
    """wall-clock time, over all runs of this search"""
    trials: tuple[TrialRecord, ...]
    finished: bool = False
    """whether the budget is spent; else --resume goes on"""

    @property
    def gpu_hours(self) -> float:
        """Hours of training x GPUs."""
        gpus = self.resources["gpus"] * self.resources["workers"]
        return float(gpus * sum(t.seconds for t in self.trials) / 3600)

    @property
    def default(self) -> TrialRecord | None:
        """Trial 0, if it has ended."""
        return next((t for t in self.trials if int(t.id) == 0), None)

    @property
    def best(self) -> TrialRecord | None:
        """The complete trial with the highest validation accuracy, the earliest of equals."""
        complete = [t for t in self.trials if t.state == "COMPLETE" and t.accuracy is not None]
        return max(complete, key=lambda t: (t.accuracy, -int(t.id)), default=None)

    @property
    def pareto(self) -> list[TrialRecord]:
        """Of several objectives: the complete trials that none beats in one without losing in another, best first."""
        names = self.search.get("objectives", [METRIC])

        def values(trial: TrialRecord) -> tuple[float, ...]:
            first, *others = (trial.objectives[name] for name in names)
            return (first, *(-value for value in others))

        complete = [t for t in self.trials if t.state == "COMPLETE" and t.objectives]
        front = [
            t
            for t in complete
            if not any(
                values(o) != values(t) and all(a >= b for a, b in zip(values(o), values(t), strict=True))
                for o in complete
            )
        ]
        return sorted(front, key=lambda t: (*(-v for v in values(t)), t.id))

    @property
    def rivals(self) -> list[TrialRecord]:
        """Those with a result that differ from the default configuration and from each other, best first.

        Stopped ones count with their best epoch.
        """
        ended = [t for t in self.trials if t.state in ("COMPLETE", "PRUNED") and t.accuracy is not None and int(t.id)]
        seen = [self.default.searched] if self.default else []
        found: list[TrialRecord] = []
        for trial in sorted(ended, key=lambda t: (-(t.accuracy or 0.0), t.id)):
            if trial.searched not in seen:
                seen.append(trial.searched)
                found.append(trial)
        return found

    @property
    def default_accuracy(self) -> float | None:
        """Of the default configuration, at the default decode setting: what a user gets who does not search."""
        return self.default.accuracy_fixed_decode if self.default else None

    @property
    def gain_points(self) -> float | None:
        """How much the best trial is above the default configuration, in percentage points."""
        if self.best is None or self.best.accuracy is None or self.default_accuracy is None:
            return None
        return 100 * (self.best.accuracy - self.default_accuracy)

    def best_configuration(self) -> dict[str, dict[str, Any]] | None:
        """The winner's configuration with its best decode setting: the content of best.json."""
        if self.best is None:
            return None
        return self.best.configuration | {"decode": self.best.configuration["decode"] | decode_setting(self.best.best)}

    def to_dict(self) -> dict[str, Any]:
        """Plain values: the content of summary.json."""
        derived = {"best": self.best.id if self.best else None, "gain_points": self.gain_points}
        return dataclasses.asdict(self) | derived

    def save(self, directory: Path) -> None:
        """Write summary.json, and best.json once there is a winner; each whole or not at all."""
        write_json(directory / "summary.json", self.to_dict())
        configuration = self.best_configuration()
        if configuration is not None:
            write_json(directory / "best.json", configuration)


def load_summary(directory: Path) -> Summary:
    """The summary of the search in `directory`; UserError if there is none."""
    path = directory / "summary.json"
    try:
        content = json.loads(path.read_text())
        trials = tuple(TrialRecord(**t) for t in content.pop("trials"))
        del content["best"], content["gain_points"]
        return Summary(trials=trials, **content)
    except FileNotFoundError:
        remedy = f"python run.py --search {directory.name}"
        raise UserError(f"{path} does not exist: no search has run there; run one with: {remedy}") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not the summary of a search ({error})") from error


def decode_setting(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The decode setting that val/accuracy was read at, {"epsilon": ..}."""
    return {key.removeprefix("decode/"): value for key, value in metrics.items() if key.startswith("decode/")}


def read_metrics(directory: Path) -> list[dict[str, Any]]:
    """The metrics of a training, one dictionary an epoch; a last line cut short by a crash is left out."""
    try:
        lines = (directory / "metrics.jsonl").read_text().splitlines(keepends=True)
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def render(summary: Summary, directory: Path, *, advice: bool = True) -> str:
    """The report: what was searched, the trials, what won and by how much, and (`advice`) what to type next."""
    parts = [_head(summary), _table(summary), _pareto(summary), _verdict(summary)]
    parts += [_next(summary, directory)] if advice else []
    return "\n\n".join(part for part in parts if part)


def _head(summary: Summary) -> str:
    """What was searched, and what it cost."""
    search, states = summary.search, [t.state for t in summary.trials]
    words = {"COMPLETE": "complete", "PRUNED": "stopped early", "FAIL": "failed"}
    counts = ", ".join(f"{states.count(state)} {word}" for state, word in words.items())
    settings = f"sampler {search['sampler']}, scheduler {search['scheduler']}, seed {search['seed']}"
    lines = [
        f"Search {summary.name}" + (f": {summary.description}" if summary.description else ""),
        f"{len(states)} trials ({settings}): {counts}",
        _spent(summary),
    ]
    width = max(len(key) for key in summary.space)
    notes = {
        key: "   (read at inference: every value is tried in each trial)"
        for key in summary.space
        if _free(key, summary)
    }
    return "\n".join(lines + [f"  {key:<{width}}  {words}{notes.get(key, '')}" for key, words in summary.space.items()])


def _spent(summary: Summary) -> str:
    """What was spent, of what was allowed, and what training every configuration in full would have cost."""
    epochs, full = sum(t.epochs for t in summary.trials), len(summary.trials) * summary.epochs
    share = f" ({epochs / full:.0%} of {full}, all in full)" if full else ""
    hours = f"{summary.seconds / 3600:.2f} hours" if summary.seconds >= 3600 else f"{summary.seconds:.0f} s"
    gpu = f", {summary.gpu_hours:.2f} GPU-hours" if summary.gpu_hours else ""
    end = "" if summary.finished else "; not over yet"
    return f"spent {epochs} epochs{share}, {hours}{gpu}; limit {in_words(summary.search)}{end}"


def _free(key: str, summary: Summary) -> bool:
    """Whether the key is tried at inference, at no cost."""
    return key.startswith("decode.") and not any(key in t.searched for t in summary.trials)


def _table(summary: Summary) -> str:
    """The trials, best first; the default one always among them."""
    if not summary.trials:
        return ""
    order = sorted(summary.trials, key=lambda t: (t.accuracy is None, -(t.accuracy or 0.0), t.id))
    shown = order[:MAX_ROWS] + [t for t in order[MAX_ROWS:] if t is summary.default]
    keys = list(summary.space)
    # Decoding is free to choose: beside the best setting of each trial, what it reaches at the one it was given.
    fixed = ["at its own decode"] if any(_free(k, summary) for k in keys) else []
    rows = [["", "trial", "state", "epochs", METRIC, *fixed, "seconds", *(_short(k, keys) for k in keys)]]
    rows += [_row(t, summary, keys) for t in shown]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    left = 3
    lines = [
        "  ".join(
            c.ljust(w) if i < left else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    hidden = len(order) - len(shown)
    failures = [f"{t.id} failed: {t.reason}" for t in summary.trials if t.reason]
    return "\n".join(lines + ([f"... and {hidden} more in summary.json"] if hidden else []) + failures[:MAX_ROWS])


def _row(trial: TrialRecord, summary: Summary, keys: Sequence[str]) -> list[str]:
    decode = decode_setting(trial.best)
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
    """Of several objectives: the trials to choose from."""
    names = summary.search.get("objectives", [METRIC])
    if len(names) < 2 or not summary.pareto:
        return ""
    rows = [["trial", *names]]
    rows += [
        [t.id, f"{100 * t.objectives[METRIC]:.1f} %", *(f"{t.objectives[n]:.4g}" for n in names[1:])]
        for t in summary.pareto
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    head = f"Pareto set: the {len(rows) - 1} complete trials that none beats in one objective without losing in another"
    return "\n".join([head, *lines])


def _short(key: str, keys: Sequence[str]) -> str:
    """The key's last part, or all of it where that is not unique."""
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
        line += f" ({100 * default.accuracy:.1f} % at its best decode setting)"
    lines = [f"{line}. Difference: {gain:+.1f} points.", _significance(summary, gain)]
    changes = _changes(best, default, summary)
    return "\n".join(lines + ([f"Changed: {changes}"] if changes else []))


def _significance(summary: Summary, gain: float) -> str:
    """What the difference is worth."""
    assert summary.best is not None and summary.best.accuracy is not None
    if summary.best is summary.default:
        return "The default configuration won."
    if not gain >= NOISE_POINTS:
        return f"That is within noise (under {NOISE_POINTS:g} points at one seed): no proof of a better configuration."
    rivals = sum(100 * (summary.best.accuracy - t.accuracy) < NOISE_POINTS for t in summary.trials if t.accuracy) - 1
    others = f"{rivals} other trials are" if rivals > 1 else "one other trial is" if rivals else "no other trial is"
    return f"Differences under {NOISE_POINTS:g} points at one seed are noise: {others} that close to the best."


def _changes(best: TrialRecord, default: TrialRecord, summary: Summary) -> str:
    """The winner's values where they differ from the default configuration, decode included."""
    before = default.searched | {f"decode.{k}": v for k, v in default.configuration["decode"].items()}
    after = best.searched | {f"decode.{k}": v for k, v in decode_setting(best.best).items()}
    before = {k: before.get(k, default.configuration[k.partition(".")[0]][k.partition(".")[2]]) for k in after}
    changed = [k for k in summary.space if k in after and after[k] != before[k]]
    return ", ".join(f"{k} {_shown(before[k])} -> {_shown(after[k])}" for k in changed)


def _next(summary: Summary, directory: Path) -> str:
    place = "" if directory == Path("results") / summary.name else f" --results {directory.parent}"
    place += "" if Path(summary.data).parent == Path("data") else f" --data {summary.data}"
    commands = [
        (f"python run.py --evaluate {summary.name} --split test{place}", "the winner on the test split, once"),
        (f"python run.py --train {directory / 'best.json'}", "train the winner again"),
        (f"tensorboard --logdir {directory}", "compare the trials"),
    ]
    if not summary.finished:
        commands.insert(0, (f"python run.py --search {summary.name} --resume{place}", "go on with the search"))
    return "\n".join(["Next:"] + [f"  {command}  # {why}" for command, why in commands])


def best_epoch(history: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The metrics of the epoch with the highest val/accuracy, the earliest of equals; {} of no epochs."""
    finite = [m for m in history if math.isfinite(m[METRIC])]
    return dict(max(finite, key=lambda m: (m[METRIC], -m["epoch"]), default={}))
