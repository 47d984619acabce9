from __future__ import annotations

from pathlib import Path

import pytest

from nmt.config import Config
from nmt.errors import UserError
from tests.tune_tests.spaces.edits import LR, edited
from tune.spaces.read import load_space


def test_decode_grid_begins_with_the_default_and_holds_each_setting_once(space_file: Path) -> None:
    path = edited(space_file, "[search]", '"decode.sinkhorn_iterations" = { values = [1, 27] }\n[search]')
    grid = load_space(path).decode_grid()
    assert grid[0] == Config().decode and len(grid) == len(set(grid)) == 6


def test_budget_can_be_changed_and_is_checked(space_file: Path) -> None:
    space = load_space(space_file)
    assert space.with_budget(trials=9, seed=3).search.trials == 9
    with pytest.raises(UserError, match="trials must be an integer at least 1, but got 0"):
        space.with_budget(trials=0)


def test_grid_holds_every_combination_with_the_default_first(space_file: Path) -> None:
    edited(space_file, LR, '"model.decoder_layers" = { low = 1, high = 3 }')
    space = load_space(edited(space_file, "trials = 5", 'sampler = "grid"'))
    grid = space.grid()
    assert space.search.trials == len(grid) == 6 and grid[0] == space.default_params
    assert len({tuple(point.items()) for point in grid}) == 6
