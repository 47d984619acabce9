from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import pytest

from nmt.config import Config
from nmt.errors import UserError
from tests.tune_tests.spaces.edits import LR, edited
from tune.spaces.read import load_space
from tune.spaces.space import Space


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


CONDITIONAL = """
"model.decoder_layers" = { low = 1, high = 3 }
"loss.layer" = { values = [0.0, 0.3] }
"loss.layer_weighting" = { values = ["flat", "linear"], when = { "loss.layer" = "> 0" } }
"""


@pytest.fixture
def conditional(space_file: Path) -> Space:
    text = space_file.read_text()
    start, end = text.index('"optim.lr" ='), text.index('"decode.epsilon"')
    space_file.write_text(text[:start] + CONDITIONAL + text[end:])
    return load_space(space_file)


def test_a_key_that_is_not_searched_makes_no_other_trial(conditional: Space) -> None:
    grid = conditional.grid()
    assert len(grid) == conditional.size == 3 * (1 + 2) and grid[0] == conditional.default_params
    assert all(("loss.layer_weighting" in point) == (point["loss.layer"] > 0) for point in grid)
    assert len({conditional.configuration(point) for point in grid}) == 9


def test_values_survive_the_study(conditional: Space) -> None:
    for point in conditional.grid():
        assert conditional.decoded(conditional.encoded(point)) == point
        assert conditional.active(point) == point and conditional.active_keys(point) == set(point)


def test_variants_differ_in_the_keys_given_alone(conditional: Space) -> None:
    found = conditional.variants(["loss.layer", "model.decoder_layers", "data.name"])
    pairs = sorted((c.model.decoder_layers, c.loss.layer) for c in found)
    assert pairs == list(itertools.product([1, 2, 3], [0.0, 0.3]))
    rest = [dataclasses.replace(c, model=conditional.base.model, loss=conditional.base.loss) for c in found]
    assert rest == [conditional.base] * 6
    assert conditional.variants([]) == [conditional.base]
    assert conditional.stored() == [conditional.base]  # no searched key decides which features are read


def test_a_space_that_cannot_be_counted_has_no_size_and_one_too_large_none_either(space_file: Path) -> None:
    assert load_space(space_file).size is None
    wide = '"data.pairs_per_step" = { low = 4, high = 100003 }\n"model.decoder_layers" = { low = 1, high = 2 }'
    space = load_space(edited(space_file, LR, wide))
    assert space.size is None
    with pytest.raises(UserError, match="a grid of 400000 configurations, more than 100000; give fewer values"):
        load_space(edited(space_file, "trials = 5", 'sampler = "grid"'))


def beyond_the_recipe(tmp_path: Path, **edits: str) -> Path:
    """The example of docs/method.md as a search space over the published recipe."""
    manual = (Path(__file__).parents[3] / "docs/method.md").read_text()
    example = manual.partition("## Beyond the recipe")[2].partition("```toml\n")[2].partition("```")[0]
    for old, new in edits.items():
        assert old in example
        example = example.replace(old, new)
    path = tmp_path / "beyond.toml"
    path.write_text(f'from = "voc"\n{example}\n[search]\nsampler = "grid"\n')
    return path


def test_what_the_published_recipe_leaves_off_can_be_searched(tmp_path: Path) -> None:
    space = load_space(beyond_the_recipe(tmp_path))
    assert space.configuration(space.default_params) == space.base
    grid = space.grid()
    assert len(grid) == (2 + 1) * 3 * 3 * 3
    assert all(("optim.milestones" in point) == (point["optim.schedule"] == "milestones") for point in grid)
    assert len({space.configuration(point) for point in grid}) == len(grid)
    with pytest.raises(UserError, match=r"optim.warmup_epochs must be below train.epochs = 12, but got 12"):
        load_space(beyond_the_recipe(tmp_path, **{"[0.0, 0.5, 1.0]": "[0.0, 12.0]"}))
