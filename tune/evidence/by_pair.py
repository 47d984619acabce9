"""Measure, from the results by pair of repeated trainings, how much their means vary over photographs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from nmt.bootstrap import MEAN, standard_errors
from nmt.errors import UserError
from nmt.inference.pck import ALPHAS, measure
from nmt.pair_results import MODEL, PairResults, load_pair_results
from tune.evidence.photographs import FIELDS, Spread
from tune.evidence.repeated import Repeated
from tune.results.layout import pairs_file

CLOSE = 0.005
"""most that the figures of a file may differ from the accuracy of its training, in [0, 1]: near-ties in decoding"""


def spreads(directory: Path, split: str, reference: Repeated, others: Sequence[Repeated]) -> dict[str, Spread]:
    """Measure how much the means of repeated trainings vary over the photographs of a split.

    Args:
        directory: of the repetition; the trainings have left their counts by pair in their folders.
        split: val or test.
        reference: the configuration that the others are compared with.
        others: all others.

    Returns:
        Name -> errors. A configuration is left out if a training lacks its counts, as those of earlier versions do, or
        if a category has too few photographs.
    """
    every = {one.name: by_seed for one in (reference, *others) if (by_seed := _kept(directory, split, one))}
    if not every:
        return {}
    first = next(iter(next(iter(every.values())).values()))
    kept = {name: counts for name, counts in every.items() if next(iter(counts.values())).same_pairs(first)}
    columns: dict[tuple[str, str], np.ndarray] = {}
    for name, own in kept.items():
        columns[name, "accuracy"] = np.mean([one.correct[MODEL] for one in own.values()], axis=0)
        base = kept.get(reference.name, {})
        both = [one.correct[MODEL] - base[seed].correct[MODEL] for seed, one in own.items() if seed in base]
        if name != reference.name and both:
            columns[name, "difference"] = np.mean(both, axis=0)
    joined = dataclasses.replace(first, correct={repr(key): column for key, column in columns.items()})
    found = dict(zip(columns, (errors.get(MEAN) for errors in standard_errors(joined).values()), strict=True))
    return {
        name: Spread(photographs=first.num_photographs, accuracy=error, difference=found.get((name, "difference")))
        for name in kept
        if (error := found[name, "accuracy"]) is not None
    }


def _kept(directory: Path, split: str, repeated: Repeated) -> dict[int, PairResults]:
    """Return seed -> the counts of a configuration's trainings; nothing unless all have them, of the same pairs."""
    found: dict[int, PairResults] = {}
    for run in repeated.runs:
        value = getattr(run, FIELDS[split])
        if value is not None:
            counts = _counts(directory / run.directory, split, value)
            if counts is None or not all(counts.same_pairs(other) for other in found.values()):
                return {}
            found[run.seed] = counts
    return found


def mean_results(accuracies: Mapping[Path, float], split: str) -> PairResults | None:
    """Return the mean over trainings of what the matcher gets right on each pair.

    Args:
        accuracies: folder of a training -> its accuracy.

    Returns:
        Counts of MODEL, and of its PCK where all have it; None unless all trainings have kept theirs, of the same
        pairs.
    """
    found = [_counts(folder, split, accuracy) for folder, accuracy in accuracies.items()]
    whole = [one for one in found if one is not None and found[0] is not None and one.same_pairs(found[0])]
    if len(whole) < len(found):
        return None
    names = [MODEL, *(measure(MODEL, alpha) for alpha in ALPHAS)]
    means = {n: np.mean([one.correct[n] for one in whole], axis=0) for n in names if all(n in o.correct for o in whole)}
    return dataclasses.replace(whole[0], correct=means)


def _counts(folder: Path, split: str, accuracy: float) -> PairResults | None:
    """Return the counts of a training; None if there are none, or those of another evaluation."""
    try:
        counts = load_pair_results(folder / pairs_file(split))
    except UserError:
        return None
    alike = MODEL in counts.correct and abs(counts.counts(MODEL).accuracy() - accuracy) <= CLOSE
    return counts if alike else None
