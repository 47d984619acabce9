from __future__ import annotations

from pathlib import Path

import pytest

from nmt.errors import UserError
from tests.tune_tests.spaces.edits import LR, edited
from tune.spaces.read import load_space


def test_space_without_free_parameter_is_refused(space_file: Path) -> None:
    path = edited(edited(space_file, LR, ""), '"loss.layer_weighting" = { values = ["flat", "linear"] }', "")
    with pytest.raises(UserError, match="no free parameter"):
        load_space(path)


def test_cmaes_needs_a_range(space_file: Path) -> None:
    lr = '"optim.lr" = { low = 1e-5, high = 1e-1, log = true }'
    space_file.write_text(space_file.read_text().replace(lr, "").replace("trials = 5", 'sampler = "cmaes"'))
    with pytest.raises(UserError, match="moves in ranges and numbers, and .* has names alone"):
        load_space(space_file)
