from __future__ import annotations

from pathlib import Path

import pytest

from nmt.errors import UserError
from tests.tune_tests.spaces.edits import LR, edited
from tune.spaces.read import load_space
from tune.spaces.rules import with_workers
from tune.spaces.settings import Resources


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


def test_the_workers_of_the_command_line_replace_those_of_the_file_and_must_fit(space_file: Path) -> None:
    space = load_space(edited(space_file, "[search]", "[resources]\ncpus = 2\nworkers = 3\n[search]"))
    assert with_workers(space, None) is space
    assert with_workers(space, "2:4").resources == Resources(cpus=2, workers=4, fewest=2)
    assert with_workers(space, "1").resources == Resources(cpus=2)
    with pytest.raises(UserError, match=r"--workers 5: \[resources\] workers = 5 is more than data.pairs_per_step = 4"):
        with_workers(space, "5")
    packed = load_space(edited(space_file, "workers = 3", "packed = 4"))
    with pytest.raises(UserError, match=r"--workers 2: \[resources\] packed = 4 trains in one process: workers must"):
        with_workers(packed, "2")
    assert with_workers(load_space(edited(space_file, "packed = 4", 'packed = "auto"')), "2").resources.workers == 2


def test_the_workers_of_the_command_line_must_fit_each_stage(space_file: Path) -> None:
    staged = edited(
        space_file,
        "[search]",
        '[features]\n"data.pairs_per_step" = 2\n[search]\nfidelity = ["features", "images"]\npromote = 2',
    )
    with pytest.raises(UserError, match=r"--workers 3: \[resources\] workers = 3 is more than data.pairs_per_step = 2"):
        with_workers(load_space(staged), "3")
