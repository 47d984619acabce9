"""The `[search]` and `[resources]` tables, and the workers of the command line."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from nmt.errors import UserError
from tests.tune_tests.spaces.edits import edited
from tune.spaces.read import load_space
from tune.spaces.settings import Resources, SearchSettings, check_table, limits_in_words, table_settings, workers_for


def test_the_keys_of_a_table_are_its_fields_with_a_meaning():
    assert list(table_settings(Resources)) == ["cpus", "gpus", "workers", "packed"]
    trials = table_settings(SearchSettings)["trials"]
    assert (trials.key, trials.type, trials.low) == ("trials", int, 1)


def test_a_wrong_entry_is_named_with_what_is_right():
    with pytest.raises(UserError, match=r"x: unknown key 'cpu'; did you mean 'cpus'\?"):
        check_table(Resources, {"cpu": 1}, "x")
    with pytest.raises(UserError, match="x: cpus must be an integer at least 1, but got 0"):
        check_table(Resources, {"cpus": 0}, "x")


def test_every_worker_must_have_a_pair_of_the_step():
    assert workers_for("2:4", 4) == Resources(workers=4, fewest=2)
    with pytest.raises(UserError, match="--workers 5: more than data.pairs_per_step = 4, so that a worker would have"):
        workers_for("5", 4)


@pytest.mark.parametrize(("workers", "fewest", "most"), [("1", 1, 1), ("4", 4, 4), ("[1, 4]", 1, 4), ("[2, 2]", 2, 2)])
def test_workers_are_a_number_or_a_range(space_file: Path, workers: str, fewest: int, most: int) -> None:
    resources = load_space(edited(space_file, "[search]", f"[resources]\nworkers = {workers}\n[search]")).resources
    assert (resources.fewest, resources.workers) == (fewest, most)


@pytest.mark.parametrize(
    ("workers", "message"),
    [
        ("0", "workers must be an integer at least 1, but got 0"),
        ("[0, 2]", "workers must be at least 1, fewest before most, but got 0 and 2"),
        ("[3, 2]", "fewest before most, but got 3 and 2"),
        ("[1, 2, 3]", r"workers must be a number or \[fewest, most\], but got \[1, 2, 3\]"),
        ('"many"', 'workers must be an integer at least 1, but got "many"'),
        ("9", "workers = 9 is more than data.pairs_per_step = 4: a worker would have no pair"),
    ],
)
def test_wrong_numbers_of_workers_are_named(space_file: Path, workers: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_space(edited(space_file, "[search]", f"[resources]\nworkers = {workers}\n[search]"))


def test_every_setting_of_a_table_is_checked_against_its_field() -> None:
    found = check_table(SearchSettings, {"trials": 3.0, "hours": 2, "objectives": ["val/accuracy"]}, "here")
    assert found == SearchSettings(trials=3, hours=2.0, objectives=("val/accuracy",))
    assert type(found.trials) is int and type(found.hours) is float
    for field in dataclasses.fields(SearchSettings):
        with pytest.raises(UserError, match=f"here: {field.name} must be"):
            check_table(SearchSettings, {field.name: None}, "here")


def test_what_is_no_entry_of_the_table_is_refused() -> None:
    with pytest.raises(UserError, match="here: unknown key 'fewest'"):
        check_table(Resources, {"fewest": 1}, "here")  # given as workers = [fewest, most]


def test_limits_are_named_in_words_and_those_not_set_are_left_out() -> None:
    assert limits_in_words({"trials": 16, "hours": 0.5, "epochs": 0}) == "16 trials or 0.5 hours"
    assert limits_in_words({"epochs": 90, "gpu_hours": 8.0, "patience": 5}) == (
        "90 epochs or 8 GPU-hours or 5 trials without improvement"
    )
    assert limits_in_words(vars(SearchSettings())) == ""
