from __future__ import annotations

from pathlib import Path

import pytest

from nmt.errors import UserError
from tests.tune_tests.spaces.edits import edited
from tune.spaces.read import load_space


@pytest.mark.parametrize(("workers", "fewest", "most"), [("1", 1, 1), ("4", 4, 4), ("[1, 4]", 1, 4), ("[2, 2]", 2, 2)])
def test_workers_are_a_number_or_a_range(space_file: Path, workers: str, fewest: int, most: int) -> None:
    resources = load_space(edited(space_file, "[search]", f"[resources]\nworkers = {workers}\n[search]")).resources
    assert (resources.fewest, resources.workers) == (fewest, most)


@pytest.mark.parametrize(
    ("workers", "message"),
    [
        ("0", "workers must be an integer at least 1, but got 0"),
        ("[0, 2]", "workers must be at least 1, fewest before most, but got 0 and 2"),
        ("[3, 2]", "fewest before most, but got 3 and 2"),
        ("[1, 2, 3]", r"workers must be a number or \[fewest, most\], but got \[1, 2, 3\]"),
        ('"many"', 'workers must be an integer at least 1, but got "many"'),
        ("9", "workers = 9 is more than data.pairs_per_step = 4: a worker would have no pair"),
    ],
)
def test_wrong_numbers_of_workers_are_named(space_file: Path, workers: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_space(edited(space_file, "[search]", f"[resources]\nworkers = {workers}\n[search]"))
