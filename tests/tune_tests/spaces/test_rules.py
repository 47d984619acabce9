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


def test_without_val_there_is_nothing_to_compare_trials_by(space_file: Path) -> None:
    both = {"data.train_split": "train+val"}
    with pytest.raises(UserError, match=r'data\.train_split = "train\+val" leaves no val .*--confirm NAME --final'):
        load_space(space_file, both)
    with pytest.raises(UserError, match=r'data\.train_split = "train\+val" leaves no val'):
        load_space("voc", both)
    with pytest.raises(UserError, match=r"data\.train_split cannot be searched: without val there is nothing"):
        load_space(edited(space_file, LR, '"data.train_split" = { values = ["train", "train+val"] }'))
