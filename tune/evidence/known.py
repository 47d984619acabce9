"""What a results folder knows of a trained matcher: its search, and its accuracy with intervals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nmt.inference.export.card import Accuracy
from nmt.training.history import METRIC
from tune.driver.two_stage import is_staged
from tune.evidence.confirmed import Confirmed, load_confirmed
from tune.evidence.repeated import Repeated
from tune.results.layout import CONFIRM, CONFIRMED, SUMMARY, TRIALS
from tune.results.statistics import Mean
from tune.results.summary import load_summary
from tune.spaces.fidelity import HIGH


@dataclass(frozen=True)
class Known:
    """A trained matcher's name, and how accurate it is."""

    name: str
    description: str
    accuracies: tuple[Accuracy, ...]


def known_of(checkpoint: Path, metrics: Mapping[str, Any]) -> Known:
    """Collect what the folders around a checkpoint say of it.

    Args:
        checkpoint: best.pt of a trial or of a training.
        metrics: of the epoch that its weights come from.

    Raises:
        UserError: a summary or a confirmation beside it is damaged.
    """
    folder = checkpoint.resolve().parent
    own = tuple(_own(metrics))
    stage = folder.parent.parent
    if folder.parent.name != TRIALS or not (stage / SUMMARY).is_file():
        return Known(folder.name, "", own)
    summary, search = load_summary(stage), stage.parent if is_staged(stage.parent) else stage
    path, confirmed = search / CONFIRM / CONFIRMED, tuple[Accuracy, ...]()
    if path.is_file() and stage in (search, search / HIGH):  # in the first stage the numbers are of other trials
        confirmed = tuple(_confirmed(load_confirmed(path), folder.name))
    return Known(search.name, summary.description, own + confirmed)


def _own(metrics: Mapping[str, Any]) -> Iterator[Accuracy]:
    if METRIC in metrics:
        yield Accuracy(f"this training, epoch {metrics['epoch']}, chosen on this split", "val", metrics[METRIC])


def _confirmed(confirmed: Confirmed, trial: str) -> Iterator[Accuracy]:
    """Return the means over the seeds of a confirmation, if the trial is in it."""
    repeated = {c.name: c for c in confirmed.candidates} | ({"000": confirmed.default} if trial == "000" else {})
    if trial in repeated:
        found: Repeated = repeated[trial]
        for split, mean in (("val", found.accuracy), ("test", found.test_accuracy)):
            if mean is not None:
                selected = ", selected on this split" if split == "val" and trial != "000" else ""
                what = f"mean of {mean.count} other trainings of this configuration, 95 % interval{selected}"
                yield _row(what, split, mean)


def _row(what: str, split: str, mean: Mean) -> Accuracy:
    half = mean.interval
    if half is None:
        return Accuracy(what, split, mean.mean)
    return Accuracy(what, split, mean.mean, mean.mean - half, mean.mean + half)
