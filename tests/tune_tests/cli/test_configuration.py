"""From flags to a configuration and a data set."""

from __future__ import annotations

import pytest

from nmt.errors import UserError
from tune.cli import inspect, train
from tune.cli.configuration import data_of, overrides, parse_assignment, recipe
from tune.cli.job import parse


def test_the_last_value_of_a_key_is_set_over_the_recipe():
    args = parse(train.JOB, ["--set", "optim.lr=1e-3", "--train", "willow", "--set", "optim.lr=1e-2"])
    assert overrides(args) == {"optim.lr": 1e-2} and recipe(args).optim.lr == 1e-2
    assert recipe(args).data.name == "willow"


def test_data_is_where_the_flag_says_or_in_the_folder_of_the_recipe():
    default = parse(inspect.JOB, ["--inspect", "voc_features"])
    assert data_of(default, recipe(default)) == "data/voc"
    given = parse(inspect.JOB, ["--inspect", "voc_features", "--data", "data/voc192"])
    assert data_of(given, recipe(given)) == "data/voc192"


def test_an_address_is_passed_on_as_it_is():
    given = parse(inspect.JOB, ["--inspect", "voc", "--data", "s3://bucket/data/voc"])
    assert data_of(given, recipe(given)) == "s3://bucket/data/voc"


def test_a_name_without_a_recipe_is_ones_own_once_its_data_set_is_there(tmp_path):
    args = parse(train.JOB, ["--train", "birds"])
    with pytest.raises(UserError, match="no recipe named 'birds'"):
        recipe(args)
    assert recipe(args, own=True).data.name == "birds"
    (tmp_path / "data" / "birds").mkdir(parents=True)
    assert recipe(args).data.name == "birds"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("optim.lr=1e-3", ("optim.lr", 1e-3)),
        ("data.mode=features", ("data.mode", "features")),
        ("optim.milestones=[3, 6]", ("optim.milestones", [3, 6])),
        ("train.compile=true", ("train.compile", True)),
        ("decode.unmatched=precision=0.9", ("decode.unmatched", "precision=0.9")),
    ],
)
def test_assignment_reads_json_or_a_plain_string(text, expected):
    assert parse_assignment(text) == expected


def test_assignment_without_equals_says_the_form():
    with pytest.raises(UserError, match="expected KEY=VALUE"):
        parse_assignment("optim.lr")
