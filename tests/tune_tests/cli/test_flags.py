"""The types of the flags' values."""

from __future__ import annotations

import argparse

import pytest

from nmt.errors import UserError
from tune.cli.flags import one_of, refuse, whole_number


def test_a_whole_number_has_a_lowest_value():
    assert whole_number(2)("2") == 2
    for text, message in (("1", "must be at least 2, but got 1"), ("2.0", "must be a whole number, but got '2.0'")):
        with pytest.raises(argparse.ArgumentTypeError, match=message):
            whole_number(2)(text)


def test_one_of_takes_its_values_alone():
    assert one_of("val", "test")("test") == "test"
    with pytest.raises(argparse.ArgumentTypeError, match="must be val or test, but got 'train'"):
        one_of("val", "test")("train")


def test_only_a_flag_that_was_given_is_refused():
    args = argparse.Namespace(given=["--search", "--seeds"])
    refuse(args, ("--trials",), "why")
    with pytest.raises(UserError, match="^--seeds: why$"):
        refuse(args, ("--trials", "--seeds"), "why")
