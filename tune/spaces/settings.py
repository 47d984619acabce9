"""The `[search]` and `[resources]` tables of a search."""

from __future__ import annotations

import dataclasses
import json
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nmt.errors import UserError
from nmt.settings import Setting, Text, check_names, setting
from tune.spaces.samplers import BUILT_IN

if typing.TYPE_CHECKING:
    from _typeshed import DataclassInstance


DEFAULT_TRIALS = 16
OBJECTIVES = ("val/accuracy", "val/f1", "decoder_parameters", "inference_seconds")
MAXIMIZED = OBJECTIVES[:2]
"""objectives of which more is better"""
AUTO = "auto"
"""`[resources] packed`: as many as pay (tune.spaces.packs)"""


def keep_setting() -> Any:
    """Make the field `keep` of a `[search]` table: of a search, or of an ablation."""
    return setting(
        "best",
        "weights of a trial that has ended: best keeps best.pt alone, all keeps its checkpoints too",
        choices=("best", "all"),
    )


@dataclass(frozen=True, kw_only=True)
class SearchSettings:
    """The `[search]` table of a search: its sampler, its early stopping and its limits."""

    sampler: str = setting(
        "tpe",
        f"how the next configuration is chosen: {', '.join(BUILT_IN)} (Optuna's samplers, gp_curves apart; "
        "grid tries every configuration once), or a sampler of your own (docs/extend.md)",
    )
    objectives: tuple[str, ...] = setting(
        ("val/accuracy",),
        "what the search optimizes: val/accuracy, and beside it val/f1, which is maximized too, and what is minimized",
        choices=OBJECTIVES,
    )
    warm_start: str = setting(
        "",
        "results directory or study.db of an earlier search over the same keys, whose trials the sampler learns from",
    )
    scheduler: str = setting(
        "asha",
        "early stopping: asha promotes the best trials of each rung, hyperband runs several such ladders, asha_stop "
        "stops trials for good, ray_asha and ray_median are Ray Tune's own, fifo stops none",
        choices=("asha", "hyperband", "asha_stop", "ray_asha", "ray_median", "fifo"),
    )
    trials: int = setting(
        0,
        "limit of configurations to try, the default one included; without any limit it is 16, or all of a grid",
        low=1,
    )
    epochs: int = setting(0, "limit of epochs trained, summed over all trials", low=1)
    hours: float = setting(0.0, "limit of hours on the clock, summed over all runs of the search", above=0)
    gpu_hours: float = setting(0.0, "limit of GPU-hours: hours of training times GPUs, summed over all trials", above=0)
    patience: int = setting(0, "limit of trials in a row that bring no better value at the first rung", low=1)
    seed: int = setting(0, "random seed of the sampler", low=0, high=2**31 - 1)
    grace_epochs: int = setting(1, "epochs every trial trains before it may be stopped: the first rung", low=1)
    reduction_factor: int = setting(3, "one trial in this many is promoted from each rung to the next", low=2)
    promote: int = setting(
        8,
        "with fidelity: how many of the best configurations on features then train on images, beside the default one",
        low=1,
    )
    reselect: int = setting(
        0,
        "how many of the best configurations train again at the end, in full and with a fresh seed; the winner has the "
        "best mean of both values; 0 names the highest value",
        low=0,
    )
    keep: str = keep_setting()
    hang_minutes: float = setting(
        120.0,
        "minutes a trial may report nothing before its first epoch; after them it counts as hung and is ended",
        low=0,
    )
    max_failures_in_a_row: int = setting(6, "number of trials failing one after the other that stops the search", low=1)


def _checked_packed(value: Any) -> int | str | None:
    """Return a value of `[resources] packed`; None if it is not allowed."""
    if value == AUTO:
        return AUTO
    whole = type(value) is int or (type(value) is float and value.is_integer())
    return int(value) if whole and value >= 1 else None


@dataclass(frozen=True, kw_only=True)
class Resources:
    """The `[resources]` table: what one worker of one trial takes."""

    cpus: int = setting(1, "CPU cores of each worker", low=1)
    gpus: float = setting(0.0, "GPUs of each worker; a fraction lets several trials share one", low=0)
    workers: int = setting(
        1,
        "data-parallel workers of each trial; [fewest, most] continues with fewer when some are lost and grows again",
        low=1,
    )
    packed: int | str = setting(
        1,
        "trials of equal shape that train together in one process on the same batches; auto: up to 16 on a GPU where "
        "heads train on features, else 1",
        text=Text(f"an integer at least 1, or {AUTO}", _checked_packed),
    )
    fewest: int = 0
    """fewest workers that a trial continues with; `workers` if the table gives one number"""

    def __post_init__(self) -> None:
        if not self.fewest:
            object.__setattr__(self, "fewest", self.workers)

    @property
    def workers_text(self) -> str:
        """The number of workers as --workers has it: "4", or "2:8"."""
        return f"{self.workers}" if self.fewest == self.workers else f"{self.fewest}:{self.workers}"

    def of_workers(self, fewest: int, most: int, *, source: str) -> Resources:
        """Return the resources with another number of workers. Raises UserError if it is no range."""
        if not 1 <= fewest <= most:
            raise UserError(f"{source}: workers must be at least 1, fewest before most, but got {fewest} and {most}")
        return dataclasses.replace(self, workers=most, fewest=fewest)


T = typing.TypeVar("T", bound="DataclassInstance")


def table_settings(kind: type[DataclassInstance]) -> dict[str, Setting]:
    """Return the keys that a table of a TOML file may hold, by name."""
    hints = typing.get_type_hints(kind)
    return {
        f.name: Setting(
            key=f.name, type=typing.get_origin(hints[f.name]) or hints[f.name], default=f.default, **f.metadata
        )
        for f in dataclasses.fields(kind)
        if f.metadata
    }


def check_table(kind: type[T], values: Mapping[str, Any], source: str) -> T:
    """Return the table `values` as a `kind`, each entry checked against its field."""
    known = table_settings(kind)
    check_names(values, known, source=source)
    return kind(**{name: known[name].check(value, source=source) for name, value in values.items()})


def parse_workers(text: str) -> Resources:
    """`N` or `FEWEST:MOST` of --workers; the other resources at their defaults. Raises UserError."""
    parts = text.split(":")
    if len(parts) > 2 or not all(part.isdecimal() for part in parts):
        raise UserError(f"--workers {text}: expected a number of workers, or FEWEST:MOST, for instance 2:8")
    return Resources().of_workers(int(parts[0]), int(parts[-1]), source=f"--workers {text}")


def workers_for(text: str, pairs_per_step: int) -> Resources:
    """Parse --workers for a training whose steps have this many pairs. Raises UserError if a worker gets none."""
    asked = parse_workers(text)
    if asked.workers > pairs_per_step:
        raise UserError(
            f"--workers {text}: more than data.pairs_per_step = {pairs_per_step}, so that a worker would have no pair"
        )
    return asked


def check_resources(values: Mapping[str, Any], source: str) -> Resources:
    """Return the checked `[resources]` table, whose workers are a number or [fewest, most]."""
    workers = values.get("workers")
    if not isinstance(workers, list):
        return check_table(Resources, values, source)
    if len(workers) != 2 or any(type(number) is not int for number in workers):
        raise UserError(f"{source}: workers must be a number or [fewest, most], but got {json.dumps(workers)}")
    others = {key: value for key, value in values.items() if key != "workers"}
    return check_table(Resources, others, source).of_workers(*workers, source=source)


def limits_in_words(search: Mapping[str, Any]) -> str:
    """Describe the limits: "16 trials or 2 hours"."""
    words = {
        "trials": "{:g} trials",
        "epochs": "{:g} epochs",
        "hours": "{:g} hours",
        "gpu_hours": "{:g} GPU-hours",
        "patience": "{:g} trials without improvement",
    }
    limits = [text.format(search[name]) for name, text in words.items() if search.get(name)]
    return " or ".join(limits)
