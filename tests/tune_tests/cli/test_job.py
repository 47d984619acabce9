"""Parsing the flags of one job."""

from __future__ import annotations

from pathlib import Path

import pytest

from nmt.errors import UserError
from tune.cli import search, train
from tune.cli.job import given_flags, parse


def test_the_job_and_its_flags_come_in_any_order():
    first = parse(search.JOB, ["--search", "voc", "--trials", "16", "--resume", "--results", "there"])
    last = parse(search.JOB, ["--resume", "--results=there", "--trials=16", "--search=voc"])
    for args in (first, last):
        assert (args.name, args.trials, args.resume, args.results) == ("voc", 16, True, Path("there"))
    assert first.given == ["--search", "--trials", "--resume", "--results"]


def test_what_is_not_given_has_the_default():
    args = parse(train.JOB, ["--train", "voc"])
    assert (args.set, args.results, args.data, args.seed, args.workers) == ([], Path("results"), None, None, None)
    assert not args.resume and not args.json


@pytest.mark.parametrize(
    ("arguments", "flags"),
    [
        (["--set", "optim.lr=-1", "--seed", "-3"], ["--set", "--seed"]),
        (["--set=loss.layer=.5", "-x", "word", "-.5"], ["--set", "-x"]),
        ([], []),
    ],
)
def test_flags_are_told_from_values_and_negative_numbers(arguments, flags):
    assert given_flags(arguments) == flags


def test_no_flag_may_be_abbreviated():
    with pytest.raises(UserError, match="unexpected argument '--tri'"):
        parse(search.JOB, ["--search", "voc", "--tri", "3"])
