from __future__ import annotations

import numpy as np
from hypothesis import given

from nmt.data.readers.demo import render as demo
from nmt.data.readers.demo.kinds import KINDS
from nmt.data.readers.demo.mesh import Solid
from nmt.data.readers.demo.palette import Palette
from tests.nmt_tests.data.readers.demo.solids import category_names, few, normals, seeds


def individual(category: str, seed: int) -> Solid:
    rng = np.random.default_rng(seed)
    return KINDS[category].build(rng, Palette(rng))


def test_six_categories_or_more_have_8_to_16_keypoints_and_every_twin_its_twin():
    assert len(demo.CATEGORIES) >= 6
    for names in demo.CATEGORIES.values():
        assert 8 <= len(names) <= 16 and len(set(names)) == len(names)
        left = {name.removeprefix("left_") for name in names if name.startswith("left_")}
        right = {name.removeprefix("right_") for name in names if name.startswith("right_")}
        assert left and left == right


@few
@given(category=category_names, seed=seeds)
def test_every_individual_has_all_keypoints_of_its_category_on_its_body(category, seed):
    solid = individual(category, seed)
    assert tuple(solid.points) == demo.CATEGORIES[category]
    corners = solid.faces.reshape(-1, 3)
    extent = np.ptp(corners, axis=0).max()
    for name, point in solid.points.items():
        away = np.linalg.norm(corners - point, axis=1).min() / extent
        assert away < 0.12, f"{name} is {away:.0%} of the object's size away from it"


@few
@given(category=category_names, seed=seeds)
def test_bodies_are_closed(category, seed):
    # the area vectors of a closed surface add up to zero
    area = normals(individual(category, seed))
    assert np.abs(area.sum(0)).max() < 1e-9 * np.abs(area).sum()
