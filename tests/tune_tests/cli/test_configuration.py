"""From flags to a configuration and a data set."""

from __future__ import annotations

from pathlib import Path

import pytest

from nmt.errors import UserError
from tune.cli import inspect, train
from tune.cli.configuration import data_directory, given_data, overrides, recipe, resolve_data
from tune.cli.job import parse


def test_the_last_value_of_a_key_is_set_over_the_recipe():
    args = parse(train.JOB, ["--set", "optim.lr=1e-3", "--train", "willow", "--set", "optim.lr=1e-2"])
    assert overrides(args) == {"optim.lr": 1e-2} and recipe(args).optim.lr == 1e-2
    assert recipe(args).data.name == "willow"


def test_data_is_where_the_flag_says_or_in_the_folder_of_the_recipe():
    default = parse(inspect.JOB, ["--inspect", "voc_features"])
    assert data_directory(default, recipe(default)) == Path("data/voc") and given_data(default) is None
    given = parse(inspect.JOB, ["--inspect", "voc_features", "--data", "data/voc192"])
    assert data_directory(given, recipe(given)) == given_data(given) == Path("data/voc192")


def test_an_address_keeps_its_slashes():
    assert str(resolve_data("s3://bucket/data/voc")) == "s3://bucket/data/voc"


def test_a_name_without_a_recipe_is_ones_own_once_its_data_set_is_there(tmp_path):
    args = parse(train.JOB, ["--train", "birds"])
    with pytest.raises(UserError, match="no search named 'birds'"):
        recipe(args)
    assert recipe(args, own=True).data.name == "birds"
    (tmp_path / "data" / "birds").mkdir(parents=True)
    assert recipe(args).data.name == "birds"
