from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tune.spaces.read import load_space
from tune.spaces.space import Space
from tune.study.places import Places
from tune.study.sampler_view import seen_params, study_params

SPACE = """
[base]
data = { mode = "features" }
loss = { layer = 0.3 }
optim = { lr = 1e-3, weight_decay = 0.1 }

[space]
"optim.lr" = { low = 1e-5, high = 1e-1, log = true }
"optim.weight_decay" = { values = [1.0, 0.1, 0.01] }
"loss.layer" = { low = 0.0, high = 1.0, step = 0.1 }
"loss.layer_weighting" = { values = ["flat", "linear"], when = { "loss.layer" = "> 0" } }
"model.decoder_layers" = { low = 1, high = 8, log = true }
"optim.milestones" = { values = [[2, 5], [], [4]] }
"loss.temperature" = { low = 0.05, high = 0.5, when = { "loss.layer" = ">= 0.5" } }
"""


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Space:
    path: Path = tmp_path_factory.mktemp("places") / "tiny.toml"
    path.write_text(SPACE)
    return load_space(path)


def test_places_are_those_of_the_scale_and_of_the_order(space: Space) -> None:
    places = Places(space)
    values = {
        "optim.lr": 1e-3,
        "optim.weight_decay": 0.1,
        "loss.layer": 0.7,
        "loss.layer_weighting": "linear",
        "model.decoder_layers": 8,
        "optim.milestones": (4,),
        "loss.temperature": 0.05,
    }
    point = places.of([seen_params(space, space.encoded(values))])[0]
    assert point == pytest.approx([0.5, 0.5, 0.7, 1, 1, 1, 0])
    assert places.named_D.tolist() == [False, False, False, True, False, True, False]
    again = space.decoded(study_params(space, places.params(point)))
    assert {k: pytest.approx(v) if isinstance(v, float) else v for k, v in values.items()} == again


@given(place=st.lists(st.floats(-0.2, 1.2), min_size=7, max_size=7))
def test_every_snapped_point_is_a_configuration_and_stays_where_it_is(space: Space, place: list[float]) -> None:
    places = Places(space)
    point = places.snapped(np.array([place]))
    values = space.decoded(study_params(space, places.params(point[0])))
    assert all(p.contains(values[p.key]) for p in space.parameters)
    space.configuration(space.active(values))
    assert places.snapped(point) == pytest.approx(point, abs=1e-9)
    # the same point, whether the study holds the keys that are not searched there or not
    held = seen_params(space, space.encoded(space.active(values)))
    assert places.of([held])[0] == pytest.approx(point[0], abs=1e-9)


def test_key_that_is_not_searched_has_its_default(space: Space) -> None:
    places = Places(space)
    layer, weighting, temperature = 2, 3, 6
    point = np.full(7, 0.9)
    point[layer] = 0.0
    snapped = places.snapped(point[None])[0]
    default = places.of([seen_params(space, space.encoded(space.default_params))])[0]
    assert snapped[[weighting, temperature]] == pytest.approx(default[[weighting, temperature]])
    assert places.params(snapped)["loss.layer_weighting"] == "flat"


def test_points_of_a_countable_space_are_its_grid(tmp_path: Path) -> None:
    path = tmp_path / "small.toml"
    lines = [line for line in SPACE.splitlines() if not line.startswith(('"optim.lr"', '"loss.temp'))]
    path.write_text("\n".join(lines))
    space = load_space(path)
    grid = Places(space).grid()
    assert grid.shape == (space.size, 5) and len(np.unique(grid.round(9), axis=0)) == space.size
