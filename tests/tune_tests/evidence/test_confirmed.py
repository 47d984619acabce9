"""What a confirmation concludes from numbers, and its file."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from nmt.errors import UserError
from nmt.io.files import write_json
from tests.tune_tests.evidence.confirmations import DEFAULT, DIRECTORY, confirmed, repeated
from tune.evidence.confirmed import load_confirmed, render
from tune.evidence.final import Final
from tune.evidence.looks import look_at


def test_no_winner_where_the_interval_includes_zero() -> None:
    # +5, -1 and +5 points: a mean of 3 within an interval of about -5.6 to 11.6.
    found = confirmed(DEFAULT, repeated("007", [0.65, 0.60, 0.67]))
    assert found.winner is None and found.to_dict()["winner"] is None
    text = render(found, DIRECTORY)
    assert "No winner: the best on average, 007, is +3.0 [-5.6, +11.6] points from the default" in text
    assert "an interval that includes 0" in text and "The test split was not read" in text
    assert "Winner" not in text and "--confirm toy --top 1 --seeds 6" in text


def test_winner_is_the_best_of_those_the_interval_separates() -> None:
    wild, good, better = [0.5, 0.9, 0.9], [0.65, 0.66, 0.67], [0.72, 0.73, 0.741]
    found = confirmed(DEFAULT, repeated("001", good), repeated("002", wild), repeated("003", better))
    assert found.best is not None and found.best.name == "002"  # on average alone
    assert found.winner is not None and found.winner.name == "003"
    text = render(found, DIRECTORY)
    assert "Winner: 003. On val +12.0 [+" in text and "cannot be told apart from 002." in text
    assert "selected on val and so optimistic" in text


def test_intervals_hold_together_for_all_candidates() -> None:
    values = [[0.60, 0.66, 0.60, 0.66, 0.60], [0.60, 0.63, 0.63, 0.65, 0.65], [0.60, 0.60, 0.66, 0.61, 0.66]]
    default = repeated("000", [0.60, 0.61, 0.60, 0.61, 0.60])
    candidates = [repeated(f"{n:03d}", accuracies) for n, accuracies in enumerate(values, start=1)]
    alone, three = confirmed(default, candidates[1]), confirmed(default, *candidates)
    assert alone.winner is not None and alone.winner.name == "002" and three.winner is None
    assert three.differences["002"].low < 0 < alone.differences["002"].low
    assert "intervals that hold together with 95 %" in render(three, DIRECTORY)
    failed = confirmed(default, candidates[1], *[repeated(f"{n:03d}", [None] * 5) for n in (4, 5)])
    assert failed.differences["002"].low < 0, "candidates that failed count as well"


def test_each_look_has_half_of_the_chance_of_a_false_winner(tmp_path: Path) -> None:
    earlier = look_at([1, 2], ["001"])
    first = confirmed(DEFAULT, repeated("001", [0.66, 0.67, 0.70]))
    first = replace(first, looks=(first.this_look,))
    second = replace(first, looks=(earlier, first.this_look))
    assert (first.look, second.look) == (1, 2) and (first.confidence, second.confidence) == (0.95, 0.975)
    assert second.differences["001"].low < first.differences["001"].low
    assert "97.5 % (look 2 at results" in render(second, DIRECTORY) and "look" not in render(first, DIRECTORY)
    content = second.to_dict()
    assert (content["look"], content["confidence"], len(content["looks"])) == (2, 0.975, 2)
    write_json(tmp_path / "confirm.json", content)
    assert load_confirmed(tmp_path / "confirm.json") == second
    for new in ("looks", "look", "confidence", "gain", "val_keypoints"):  # as an earlier version wrote it
        del content[new]
    write_json(tmp_path / "confirm.json", content)
    assert load_confirmed(tmp_path / "confirm.json").looks == (first.this_look,)


def test_two_seeds_prove_nothing() -> None:
    found = confirmed(repeated("000", [0.60, 0.61]), repeated("001", [0.80, 0.82]))  # of an earlier version
    assert found.winner is None and "over fewer than 3 seeds, which prove nothing" in render(found, DIRECTORY)


def test_the_gain_to_report_is_that_on_test(tmp_path: Path) -> None:
    default, better = repeated("000", [0.60, 0.61, 0.62], test=[0.5, 0.51, 0.5]), [0.70, 0.71, 0.72]
    found = confirmed(default, repeated("001", better, test=[0.52, 0.53, 0.53]))
    assert found.gain == found.test_difference and found.to_dict()["gain"]["mean"] == pytest.approx(0.0233, abs=1e-4)
    assert "gain +2.3 [" in render(found, DIRECTORY)
    trained = Final(winner=repeated("001", better, [0.6, 0.61, 0.62]), default=repeated("000", better, [0.5] * 3))
    assert replace(found, final=trained).gain == trained.difference != found.test_difference
    assert confirmed(DEFAULT, repeated("001", better)).gain is None


def test_nothing_below_the_default_wins() -> None:
    found = confirmed(DEFAULT, repeated("001", [0.5, 0.51, 0.52]))
    assert found.winner is None
    assert "is -10.0 [-11.1, -8.9] points from the default, below it" in render(found, DIRECTORY)


def test_configuration_with_a_failed_training_cannot_win() -> None:
    found = confirmed(DEFAULT, repeated("001", [0.70, 0.71, None]))
    text = render(found, DIRECTORY)
    assert found.winner is None and "no configuration finished all its trainings" in text
    assert "001, seed 3 failed: the loss is no longer finite" in text


def test_test_split_is_judged_by_its_own_interval() -> None:
    default = repeated("000", [0.60, 0.61, 0.62], test=[0.50, 0.52, 0.51])
    better = [0.70, 0.71, 0.72]
    holds = confirmed(default, repeated("001", better, test=[0.60, 0.615, 0.61]))
    assert "the gain holds on unseen data" in render(holds, DIRECTORY)
    unproven = confirmed(default, repeated("001", better, test=[0.60, 0.50, 0.51]))
    assert "the gain is not proven" in render(unproven, DIRECTORY)
    worse = confirmed(default, repeated("001", better, test=[0.40, 0.42, 0.411]))
    assert "on unseen data it is worse" in render(worse, DIRECTORY)


def test_confirmation_returns_from_its_file_as_it_was(tmp_path: Path) -> None:
    found = confirmed(DEFAULT, repeated("001", [0.70, 0.71, 0.72], test=[0.6, 0.6, 0.6]))
    write_json(tmp_path / "confirm.json", found.to_dict())
    assert load_confirmed(tmp_path / "confirm.json") == found
    (tmp_path / "confirm.json").write_text("{}")
    with pytest.raises(UserError, match="not the file of a confirmation"):
        load_confirmed(tmp_path / "confirm.json")


def test_final_trainings_are_part_of_the_file_and_of_the_report(tmp_path: Path) -> None:
    plain = confirmed(DEFAULT, repeated("001", [0.70, 0.71, 0.72]))
    final = Final(
        winner=repeated("001", [0.0] * 3, test=[0.71, 0.72, 0.73]), default=repeated("000", [0.0] * 3, [0.6, 0.62, 0.6])
    )
    found = replace(plain, final=final)
    write_json(tmp_path / "confirm.json", found.to_dict())
    assert load_confirmed(tmp_path / "confirm.json") == found
    content = json.loads((tmp_path / "confirm.json").read_text())
    assert content["final"]["train_split"] == "train+val" and content["final"]["test_difference"]["mean"] > 0.1
    text = render(found, DIRECTORY)
    assert "test split (read for these): 001 72.0" in text and "above the default" in text
    assert "Test split (read for these two alone)" not in text
    assert "--match results/toy/confirm/final/runs/001-s1/best.pt" in text
    del content["final"]  # as an earlier version wrote it
    write_json(tmp_path / "confirm.json", content)
    assert load_confirmed(tmp_path / "confirm.json") == plain
