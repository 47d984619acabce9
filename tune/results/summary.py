"""The results of a search so far, as plain values: written to summary.json and best.json, and read back."""

from __future__ import annotations

import dataclasses
import functools
import json
import statistics
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nmt.commands import command
from nmt.errors import UserError
from nmt.io.files import atomic_write, write_json
from nmt.training.history import METRIC, decoding_of
from tune.results.layout import BEST_CONFIG, SUMMARY
from tune.results.luck import Luck, luck_of
from tune.spaces.settings import MAXIMIZED


@dataclass(frozen=True, kw_only=True)
class TrialRecord:
    """One finished trial."""

    id: str
    state: str
    """COMPLETE (full budget), PRUNED (stopped early) or FAIL"""
    searched: dict[str, Any]
    """values of the searched keys, without those tried at inference"""
    configuration: dict[str, dict[str, Any]]
    """the whole configuration as trained, nested"""
    best: dict[str, Any]
    """metrics of the epoch with the highest val/accuracy; empty if no epoch was completed"""
    last: dict[str, Any]
    accuracy_fixed_decode: float | None
    """highest val/accuracy of an epoch at the configuration's own decoding"""
    epochs: int
    seconds: float
    seed: int
    checkpoint: str | None
    """weights of the best epoch, relative to the search directory"""
    reason: str | None
    """why the trial failed"""
    objectives: dict[str, float] = dataclasses.field(default_factory=dict)
    """value of each objective at the best epoch"""
    origin: str | None = None
    """the search and trial that its configuration was promoted from; None if it was drawn"""

    @property
    def accuracy(self) -> float | None:
        return self.best.get(METRIC)

    @functools.cached_property
    def entry(self) -> str:
        """The record's lines in summary.json, kept for the next time that the file is written."""
        return textwrap.indent(json.dumps(dataclasses.asdict(self), indent=2), "    ")


@dataclass(frozen=True, kw_only=True)
class Summary:
    """The state of a search, running or finished: the content of summary.json."""

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
    """True once the budget is spent; until then --resume continues the search"""
    has_test: bool = True
    """False: the data set has no test split, so the winner can be evaluated on val alone"""
    val_pairs: int = 0
    """pairs that val/accuracy is computed over; 0 if that is not known"""

    @property
    def gpu_hours(self) -> float:
        """Training time in hours times the GPUs of a trial."""
        gpus = self.resources["gpus"] * self.resources["workers"]
        return float(gpus * sum(t.seconds for t in self.trials) / 3600)

    @property
    def default(self) -> TrialRecord | None:
        """Trial 0, if it has ended."""
        return next((t for t in self.trials if int(t.id) == 0), None)

    @functools.cached_property
    def best(self) -> TrialRecord | None:
        """The complete trial with the highest validation accuracy, the earliest of equals.

        With `[search] reselect`, the better trial of the configuration with the best mean over its seeds.
        """
        complete = [t for t in self.trials if t.state == "COMPLETE" and t.accuracy is not None]
        if self.reselected:
            complete = list(self.reselected[0])
        return max(complete, key=lambda t: (t.accuracy, -int(t.id)), default=None)

    @functools.cached_property
    def reselected(self) -> list[tuple[TrialRecord, ...]]:
        """The complete trials of each configuration that was trained again with another seed, best mean first."""
        complete = [t for t in self.trials if t.state == "COMPLETE" and t.accuracy is not None]
        seed = self.trials[0].seed if self.trials else None
        repeats = [t for t in complete if t.seed != seed]
        found = [tuple(t for t in complete if t.searched == repeat.searched) for repeat in repeats]
        return sorted(found, key=lambda several: (-mean_accuracy(several), several[0].id))

    @property
    def pareto(self) -> list[TrialRecord]:
        """The complete trials that none beats in one objective without losing in another, best first.

        Only for a search with several objectives.
        """
        names = self.search.get("objectives", [METRIC])

        def values(trial: TrialRecord) -> tuple[float, ...]:
            return tuple(trial.objectives[name] * (1 if name in MAXIMIZED else -1) for name in names)

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
        """Trials with a result that differ from the default configuration and from each other, best first.

        A trial that was stopped early counts with its best epoch.
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
        """Accuracy of the default configuration at the default decoding.

        It is what a user gets without a search, so gains are measured against it.
        """
        return self.default.accuracy_fixed_decode if self.default else None

    @property
    def tried(self) -> int:
        """Number of trials with a result. Those of `[search] reselect` are no further tries: they repeat one."""
        repeats = sum(len(several) - 1 for several in self.reselected)
        return sum(t.accuracy is not None for t in self.trials) - repeats

    @property
    def luck(self) -> Luck | None:
        """What luck alone would show in as many trials; None for fewer than two."""
        return luck_of(self.tried)

    @property
    def gain_points(self) -> float | None:
        """Accuracy of the best trial minus that of the default configuration, in percentage points.

        With `[search] reselect` the mean over the winner's seeds, which is less by luck.
        """
        if self.best is None or self.best.accuracy is None or self.default_accuracy is None:
            return None
        reached = mean_accuracy(self.reselected[0]) if self.reselected else self.best.accuracy
        return 100 * (reached - self.default_accuracy)

    def best_configuration(self) -> dict[str, dict[str, Any]] | None:
        """Return the winner's configuration with its best decoding: the content of best.json."""
        if self.best is None:
            return None
        return self.best.configuration | {"decode": self.best.configuration["decode"] | decoding_of(self.best.best)}

    def _derived(self) -> dict[str, Any]:
        """Return what summary.json says besides the fields."""
        luck = self.luck.to_dict() if self.luck else None
        return {"best": self.best.id if self.best else None, "gain_points": self.gain_points, "luck": luck}

    def to_dict(self) -> dict[str, Any]:
        """Return plain values: the content of summary.json."""
        return dataclasses.asdict(self) | self._derived()

    def to_json(self) -> str:
        """Return `to_dict` as indented JSON. A record that has been written before costs no more than its copy."""
        text = json.dumps(dataclasses.replace(self, trials=()).to_dict() | self._derived(), indent=2)
        entries = ",\n".join(record.entry for record in self.trials)
        # A string has no line break in JSON, so no other line reads so.
        return text.replace('\n  "trials": [],\n', f'\n  "trials": [\n{entries}\n  ],\n') if entries else text

    def save(self, directory: Path) -> None:
        """Write summary.json, and best.json if there is a winner. Each file is written whole or not at all."""
        with atomic_write(directory / SUMMARY) as file:
            file.write((self.to_json() + "\n").encode())
        configuration = self.best_configuration()
        if configuration is not None:
            write_json(directory / BEST_CONFIG, configuration)


def mean_accuracy(trials: Sequence[TrialRecord]) -> float:
    """Return the mean accuracy of trials that have one."""
    return statistics.fmean(t.accuracy or 0.0 for t in trials)


def load_summary(directory: str | Path) -> Summary:
    """Read the summary of the search in `directory`.

    Raises:
        UserError: no search has run there, or the file is damaged.
    """
    directory = Path(directory)
    path = directory / SUMMARY
    try:
        content = json.loads(path.read_text())
        trials = tuple(TrialRecord(**t) for t in content.pop("trials"))
        del content["best"], content["gain_points"]
        content.pop("luck", None)  # not in the file of an earlier version
        return _checked(Summary(trials=trials, **content))
    except FileNotFoundError:
        remedy = command("--search", directory.name, results=directory.parent)
        raise UserError(f"{path} does not exist: no search has run there; run one with: {remedy}") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not the summary of a search ({error})") from error


def _checked(summary: Summary) -> Summary:
    """Return the summary. Raises TypeError or ValueError where a part of it is of another kind than a search's."""
    tables = {name: getattr(summary, name) for name in ("space", "search", "resources")}
    for trial in summary.trials:
        int(trial.id)
        parts = ("searched", "configuration", "best", "last", "objectives")
        tables |= {f"{name} of trial {trial.id}": getattr(trial, name) for name in parts}
    for name, value in tables.items():
        if not isinstance(value, dict):
            raise TypeError(f"{name} is no table")
    needed = {"sampler", "scheduler", "seed"} - summary.search.keys() | {"gpus", "workers"} - summary.resources.keys()
    if needed:
        raise ValueError(f"without {', '.join(sorted(needed))}")
    return summary


def best_checkpoint(directory: str | Path) -> Path:
    """Return the path of the weights of the best trial of the search in `directory`.

    Raises:
        UserError: no search is there, or none of its trials has completed its epochs.
    """
    best = load_summary(directory).best
    if best is None or best.checkpoint is None:
        raise UserError(f"{directory}: no trial has completed its epochs yet")
    return Path(directory) / best.checkpoint
