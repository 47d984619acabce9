"""What a folder of results says of a trained matcher."""

from __future__ import annotations

from pathlib import Path

import pytest

from nmt.errors import UserError
from nmt.io.files import write_json
from tests.tune_tests.evidence.confirmations import confirmed, repeated
from tests.tune_tests.results.summaries import record, summary
from tune.evidence.known import known_of

METRICS = {"epoch": 6, "val/accuracy": 0.75}


def test_a_training_alone_has_its_validation_accuracy_without_an_interval(tmp_path: Path) -> None:
    known = known_of(tmp_path / "birds" / "best.pt", METRICS)
    assert known.name == "birds" and [row.shown for row in known.accuracies] == ["75.0 %"]
    assert "chosen on this split" in known.accuracies[0].what
    assert known_of(tmp_path / "birds" / "best.pt", {}).accuracies == ()


@pytest.mark.parametrize("trial", ["000", "007", "008"])
def test_a_confirmed_trial_has_the_means_over_seeds_with_their_intervals(tmp_path: Path, trial: str) -> None:
    folder = tmp_path / "toy"
    folder.mkdir()
    summary(record(0, 0.5), record(7, 0.7), record(8, 0.6)).save(folder)
    default = repeated("000", [0.5, 0.5, 0.5], test=[0.4, 0.5, 0.6])
    found = confirmed(default, repeated("007", [0.7, 0.71, 0.72], test=[0.6, 0.61, 0.62]))
    write_json(folder / "confirm" / "confirm.json", found.to_dict())
    own, *means = known_of(folder / "trials" / trial / "best.pt", METRICS).accuracies
    assert own.value == 0.75
    expected = {
        "000": ["50.0 % [50.0, 50.0]", "50.0 % [25.2, 74.8]"],
        "007": ["71.0 % [68.5, 73.5]", "61.0 % [58.5, 63.5]"],
    }
    assert [row.shown for row in means] == expected.get(trial, [])
    assert [row.split for row in means] == ["val", "test"][: len(means)]
    assert [row.what.endswith("selected on this split") for row in means] == [trial == "007", False][: len(means)]


@pytest.mark.parametrize(("stage", "means"), [("images", 2), ("features", 0)])
def test_a_trial_of_a_stage_has_the_name_and_the_confirmation_of_its_search(
    tmp_path: Path, stage: str, means: int
) -> None:
    folder = tmp_path / "toy"
    write_json(folder / "search.json", {"fidelity": ["features", "images"]})
    (folder / stage).mkdir()
    summary(record(0, 0.5), record(7, 0.7)).save(folder / stage)
    found = confirmed(repeated("000", [0.5] * 3), repeated("007", [0.7, 0.71, 0.72], test=[0.6, 0.61, 0.62]))
    write_json(folder / "confirm" / "confirm.json", found.to_dict())
    known = known_of(folder / stage / "trials/007/best.pt", METRICS)
    assert known.name == "toy" and len(known.accuracies) == 1 + means


def test_a_damaged_confirmation_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "toy"
    folder.mkdir()
    summary(record(0, 0.5)).save(folder)
    write_json(folder / "confirm" / "confirm.json", {})
    with pytest.raises(UserError, match=r"confirm\.json: not the file of a confirmation"):
        known_of(folder / "trials" / "000" / "best.pt", METRICS)
