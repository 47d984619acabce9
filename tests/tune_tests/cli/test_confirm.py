"""What `--confirm` refuses before anything trains."""

from __future__ import annotations

import json

import pytest


def test_the_data_set_of_the_search_is_asked_for_first(refused, tmp_path):
    directory = tmp_path / "results" / "tiny"
    directory.mkdir(parents=True)
    summary = {
        "name": "tiny", "description": "", "data": "data/tiny", "space": {},
        "search": {"sampler": "tpe", "scheduler": "asha", "seed": 0}, "resources": {"gpus": 0, "workers": 1},
        "epochs": 4, "seconds": 1.0, "trials": [], "best": None, "gain_points": None,
    }  # fmt: skip
    (directory / "summary.json").write_text(json.dumps(summary))
    assert "data/tiny/objects.arrow: not there" in refused("--confirm", "tiny")
    assert "other/objects.arrow: not there" in refused("--confirm", "tiny", "--data", "other")


@pytest.mark.parametrize("flag", ["--top", "--seeds", "--seed"])
def test_a_count_that_is_no_whole_number_is_refused(refused, flag):
    assert f"{flag} must be a whole number, but got '2.5'" in refused("--confirm", "tiny", flag, "2.5")


def test_a_directory_without_a_search_says_how_to_run_one(refused, tmp_path):
    (tmp_path / "results" / "tiny").mkdir(parents=True)
    assert "no search has run there; run one with: python run.py --search tiny" in refused("--confirm", "tiny")
