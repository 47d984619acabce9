"""The `[search]` and `[resources]` tables of a search."""

from __future__ import annotations

import dataclasses
import json
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nmt.config import Setting, check_names, setting
from nmt.errors import UserError
from tune.spaces.samplers import BUILT_IN

if typing.TYPE_CHECKING:
    from _typeshed import DataclassInstance


DEFAULT_TRIALS = 16
OBJECTIVES = ("val/accuracy", "decoder_parameters", "inference_seconds")


@dataclass(frozen=True, kw_only=True)
class SearchSettings:
    """The `[search]` table."""

    sampler: str = setting(
        "tpe",
        f"how configurations are chosen: {', '.join(BUILT_IN)}, or one of your own (docs/extend.md)",
    )
    objectives: tuple[str, ...] = setting(
        ("val/accuracy",), "what is maximised, and what is minimised beside it", choices=OBJECTIVES
    )
    warm_start: str = setting("", "directory or study.db of a search over the same keys, whose trials the sampler sees")
    scheduler: str = setting(
        "asha",
        "early stopping: halving by promotion, or by stopping, Hyperband's brackets, Ray's own two, or none",
        choices=("asha", "hyperband", "asha_stop", "ray_asha", "ray_median", "fifo"),
    )
    trials: int = setting(
        0, "limit: configurations to try, the default one included (16 where no limit is set; of a grid, all)", low=1
    )
    epochs: int = setting(0, "limit: epochs trained in all", low=1)
    hours: float = setting(0.0, "limit: hours on the clock, over all runs of the search", above=0)
    gpu_hours: float = setting(0.0, "limit: hours of training x GPUs", above=0)
    patience: int = setting(0, "limit: trials in a row without a better value after the first rung", low=1)
    seed: int = setting(0, "of the sampler", low=0, high=2**31 - 1)
    grace_epochs: int = setting(1, "epochs before a trial may be stopped", low=1)
    reduction_factor: int = setting(3, "one trial in this many goes on at each rung", low=2)
    promote: int = setting(8, "with fidelity: the best on features that train on images, beside the default", low=1)
    hang_minutes: float = setting(120.0, "silence before a trial's first epoch that is taken for a hang", low=0)
    max_failures_in_a_row: int = setting(6, "trials that fail one after the other and stop the search", low=1)


@dataclass(frozen=True, kw_only=True)
class Resources:
    """The `[resources]` table: what one worker of a trial takes."""

    cpus: int = setting(1, "CPU cores a worker", low=1)
    gpus: float = setting(0.0, "GPUs a worker; a fraction lets trials share one", low=0)
    workers: int = setting(
        1, "data-parallel workers a trial; [fewest, most] goes on with fewer when some are lost and grows again", low=1
    )
    packed: int = setting(1, "trials of equal shape that train in one process, on the same batches", low=1)
    fewest: int = 0
    """workers with which a trial still goes on; `workers` where the table gives one number"""

    def __post_init__(self) -> None:
        if not self.fewest:
            object.__setattr__(self, "fewest", self.workers)

    def of_workers(self, fewest: int, most: int, *, source: str) -> Resources:
        """With another number of workers. Raises UserError where that is no range."""
        if not 1 <= fewest <= most:
            raise UserError(f"{source}: workers must be at least 1, fewest before most, but got {fewest} and {most}")
        return dataclasses.replace(self, workers=most, fewest=fewest)


T = typing.TypeVar("T", bound="DataclassInstance")


def check_table(kind: type[T], values: Mapping[str, Any], source: str) -> T:
    """The table `values` as a `kind`, each entry checked against its field."""
    hints = typing.get_type_hints(kind)
    known = {
        f.name: Setting(
            key=f.name, type=typing.get_origin(hints[f.name]) or hints[f.name], default=f.default, **f.metadata
        )
        for f in dataclasses.fields(kind)
        if f.metadata
    }
    check_names(values, known, source=source)
    return kind(**{name: known[name].check(value, source=source) for name, value in values.items()})


def check_resources(values: Mapping[str, Any], source: str) -> Resources:
    """The `[resources]` table, whose workers are a number or [fewest, most]."""
    workers = values.get("workers")
    if not isinstance(workers, list):
        return check_table(Resources, values, source)
    if len(workers) != 2 or any(type(number) is not int for number in workers):
        raise UserError(f"{source}: workers must be a number or [fewest, most], but got {json.dumps(workers)}")
    others = {key: value for key, value in values.items() if key != "workers"}
    return check_table(Resources, others, source).of_workers(*workers, source=source)


def limits_in_words(search: Mapping[str, Any]) -> str:
    """The limits: "16 trials or 2 hours"."""
    words = {
        "trials": "{:g} trials",
        "epochs": "{:g} epochs",
        "hours": "{:g} hours",
        "gpu_hours": "{:g} GPU-hours",
        "patience": "{:g} trials without improvement",
    }
    limits = [text.format(search[name]) for name, text in words.items() if search.get(name)]
    return " or ".join(limits)
