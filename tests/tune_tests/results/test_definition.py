"""The space of a search, read from its folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nmt.errors import UserError
from nmt.io.files import write_json
from tune.results.definition import space_of, trial_decode_grid
from tune.spaces.read import load_space


@pytest.fixture
def directory(space_file: Path, tmp_path: Path) -> Path:
    """A search that ran with another epoch count than its file has."""
    folder = tmp_path / "results" / "tiny"
    (folder / "trials/003").mkdir(parents=True)
    (folder / "search.toml").write_text(space_file.read_text())
    write_json(folder / "search.json", load_space(space_file, {"train.epochs": 9}).to_dict())
    return folder


def test_the_base_is_that_of_the_run(directory: Path) -> None:
    assert space_of(directory).base.train.epochs == 9
    (directory / "search.json").write_text(json.dumps({"base": []}))
    with pytest.raises(UserError, match="search.json: not the definition of a search"):
        space_of(directory)


def test_a_trial_sweeps_the_grid_of_its_search_and_other_files_none(directory: Path, tmp_path: Path) -> None:
    base = space_of(directory).base
    grid = trial_decode_grid(directory / "trials/003/config.json", base)
    assert {decoding.epsilon for decoding in grid} == {0.01, 0.035, 0.2}
    assert trial_decode_grid(tmp_path / "config.json", base) == ()
