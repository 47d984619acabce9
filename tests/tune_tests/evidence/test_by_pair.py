"""Errors over photographs, from the files of trainings."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from nmt.bootstrap import MEAN, standard_errors
from nmt.pair_results import MODEL, PairResults
from tests.tune_tests.evidence.confirmations import repeated
from tune.evidence.by_pair import mean_results, spreads
from tune.evidence.photographs import difference_shown, mean_shown
from tune.evidence.repeated import Repeated
from tune.results.layout import pairs_file

PHOTOGRAPHS = 12
PAIRS = np.array(list(itertools.permutations(range(PHOTOGRAPHS), 2)))
TOTAL = np.full(len(PAIRS), 10.0)


def counts(seed: int, level: float, photographs: np.ndarray = PAIRS) -> PairResults:
    """Ten keypoints a pair, matched rightly the more often the higher the level."""
    correct = np.random.default_rng(seed).binomial(10, level, len(PAIRS)).astype(float)
    return PairResults(("cup",), photographs, np.zeros(len(PAIRS), int), TOTAL, {MODEL: correct})


def trained(directory: Path, name: str, level: float, first: int, split: str = "val") -> Repeated:
    """Leave the counts of three trainings, and return their accuracies."""
    kept = [counts(first + k, level) for k in range(3)]
    accuracies = [one.counts(MODEL).accuracy() for one in kept]
    found = repeated(name, accuracies, test=accuracies)
    for run, one in zip(found.runs, kept, strict=True):
        one.save(directory / run.directory / pairs_file(split))
    return found


def test_errors_are_those_of_the_mean_over_seeds_and_of_the_paired_difference(tmp_path: Path) -> None:
    reference, better = trained(tmp_path, "000", 0.5, 0), trained(tmp_path, "007", 0.6, 10)
    found = spreads(tmp_path, "val", reference, [better])
    mean0, mean1 = (
        np.mean([counts(f + k, p).correct[MODEL] for k in range(3)], axis=0) for f, p in ((0, 0.5), (10, 0.6))
    )
    columns = {"accuracy": mean1, "difference": mean1 - mean0}
    expected = standard_errors(PairResults(("cup",), PAIRS, np.zeros(len(PAIRS), int), TOTAL, columns))
    assert found["007"].accuracy == pytest.approx(expected["accuracy"][MEAN])
    assert found["007"].difference == pytest.approx(expected["difference"][MEAN])
    assert found["000"].difference is None and found["000"].photographs == PHOTOGRAPHS
    assert spreads(tmp_path, "test", reference, [better]) == {}


@pytest.mark.parametrize("fault", ["absent", "damaged", "other weights", "other pairs"])
def test_a_configuration_without_its_counts_is_compared_over_seeds_alone(tmp_path: Path, fault: str) -> None:
    reference, better = trained(tmp_path, "000", 0.5, 0), trained(tmp_path, "007", 0.6, 10)
    path = tmp_path / better.runs[1].directory / pairs_file("val")
    if fault == "absent":
        path.unlink()
    elif fault == "damaged":
        path.write_bytes(path.read_bytes()[:40])
    elif fault == "other weights":
        counts(99, 0.9).save(path)
    else:
        counts(11, 0.6, PAIRS[:, ::-1]).save(path)
    found = spreads(tmp_path, "val", reference, [better])
    assert set(found) == {"000"}
    assert difference_shown(better, reference, found) == better.above(reference)
    assert mean_shown(better, found) == better.accuracy


def test_the_mean_over_trainings_needs_the_counts_of_all(tmp_path: Path) -> None:
    found = trained(tmp_path, "000", 0.5, 0)
    accuracies = {tmp_path / run.directory: run.accuracy or 0.0 for run in found.runs}
    joined = mean_results(accuracies, "val")
    assert joined is not None and found.accuracy is not None
    assert joined.counts(MODEL).accuracy() == pytest.approx(found.accuracy.mean)
    (tmp_path / found.runs[0].directory / pairs_file("val")).unlink()
    assert mean_results(accuracies, "val") is None
