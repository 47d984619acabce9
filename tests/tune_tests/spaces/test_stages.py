"""The two searches of one with `fidelity`: the first on features, the second on images."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from nmt.config import to_flat
from tests.tune_tests.spaces.edits import edited
from tune.spaces.fidelity import Promoted
from tune.spaces.read import load_space
from tune.spaces.space import Space
from tune.spaces.stages import exploration, final, parts


@pytest.fixture
def space(space_file: Path) -> Space:
    edited(space_file, "trials = 5", 'trials = 5\npromote = 2\nhours = 3\nfidelity = ["features", "images"]')
    return load_space(edited(space_file, "[search]", "[features]\ntrain.epochs = 7\n[search]"))


def test_without_fidelity_a_search_is_one(space_file: Path) -> None:
    space = load_space(space_file)
    assert parts(space) == (space,)


def test_exploration_has_the_whole_budget_on_features_with_its_own_epochs(space: Space) -> None:
    first = exploration(space)
    assert to_flat(first.base) == to_flat(space.base) | {"data.mode": "features", "train.epochs": 7}
    assert first.search == space.search and first.parameters == space.parameters and first.name == "features"
    assert not first.fidelity and not first.given


def test_the_best_train_again_in_the_second_stage_alone(space: Space) -> None:
    space = dataclasses.replace(space, search=dataclasses.replace(space.search, reselect=2))
    first, second = parts(space)
    assert first.search.reselect == 0 and second.search.reselect == 2


def test_the_second_stage_is_the_default_and_the_chosen_and_has_no_other_limit(space: Space) -> None:
    chosen = [Promoted(origin=f"features/00{n}", params={"optim.lr": 10.0**-n}) for n in (2, 3)]
    second = final(space, chosen)
    assert second.base.data.mode == "images" and second.base.train.epochs == space.base.train.epochs == 4
    assert second.given == tuple(chosen) and second.search.trials == 3 and second.name == "images"
    assert dataclasses.replace(second.search, trials=5, hours=3.0) == space.search
    assert [second.configuration(g.params).optim.lr for g in second.given] == [0.01, 0.001]


def test_neither_stage_is_split_again(space: Space) -> None:
    first, second = parts(space)
    assert (first.name, second.name) == ("features", "images")
    assert parts(first) == (first,) and parts(second) == (second,)
