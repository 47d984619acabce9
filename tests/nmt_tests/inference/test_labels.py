from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from nmt.inference.labels import place_labels


def overlap(one, other):
    return min(one[2], other[2]) > max(one[0], other[0]) and min(one[3], other[3]) > max(one[1], other[1])


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 20), st.integers(20, 200))
def test_names_lie_in_the_image_and_cover_no_other_name(seed, count, side):
    points = np.random.default_rng(seed).uniform((7, 18), (7 + side, 18 + side), (count, 2))
    places = place_labels(points, [(30.0, 12.0)] * count, (7, 18, side, side), gap=4)
    found = [place for place in places if place is not None]
    for left, top, right, bottom in found:
        assert left >= 7 and top >= 18 and right <= 7 + side and bottom <= 18 + side
    assert not any(overlap(one, other) for one, other in itertools.combinations(found, 2))


def test_a_name_stands_beside_its_point_and_avoids_the_other_points():
    points = np.array([[50.0, 50.0], [70.0, 50.0]])
    places = place_labels(points, [(20.0, 10.0)] * 2, (0, 0, 200, 200), gap=4)
    for n, place in enumerate(places):
        x, y = points[1 - n]
        assert place is not None and not (place[0] <= x <= place[2] and place[1] <= y <= place[3])
    alone = place_labels(points[:1], [(20.0, 10.0)], (0, 0, 200, 200), gap=4)
    assert alone == [(54.0, 45.0, 74.0, 55.0)]


def test_a_name_without_room_is_left_out():
    assert place_labels(np.array([[5.0, 5.0]]), [(50.0, 12.0)], (0, 0, 30, 30), gap=4) == [None]
