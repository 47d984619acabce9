"""Whatever a request holds, it is a match request or one line. Limits over connections: test_app.py."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmt.errors import UserError
from nmt.inference.serve.bodies import parse_match
from nmt.inference.serve.pictures import Pictures

HELD = Pictures(16)
ID = HELD.add_array(np.zeros((10, 20, 3), np.uint8)).id
NUMBER = st.one_of(st.floats(), st.integers(), st.booleans(), st.none(), st.text(max_size=3))
POINTS = st.lists(st.lists(NUMBER, min_size=1, max_size=3), max_size=4) | NUMBER
SIDE = st.fixed_dictionaries({}, optional={"picture": st.just(ID) | NUMBER, "points": POINTS}) | NUMBER


@settings(deadline=None)
@given(st.fixed_dictionaries({}, optional={"source": SIDE, "target": SIDE}))
def test_any_request_is_points_inside_their_pictures_or_one_line(content):
    body = json.dumps(content).encode()
    line = refusal(body)
    assert line is None or "\n" not in line
    if line is None:
        asked = parse_match(body, HELD)
        for points_N2 in asked.points_N2:
            assert len(points_N2) >= 2 and ((points_N2 >= 0) & (points_N2 <= (20, 10))).all()


def refusal(body: bytes) -> str | None:
    """The error of a request; None where there is none."""
    try:
        parse_match(body, HELD)
    except UserError as error:
        return str(error)
    return None


def test_a_request_is_two_pictures_and_their_points():
    side = {"picture": ID, "points": [[0, 0], [20, 10], [3.5, 4]]}
    asked = parse_match(json.dumps({"source": side, "target": side}).encode(), HELD)
    assert asked.pictures[0] is asked.pictures[1] is HELD.get(ID)
    assert asked.points_N2[1].tolist() == [[0, 0], [20, 10], [3.5, 4]]


@settings(deadline=None)
@given(st.binary(max_size=40))
def test_any_bytes_are_refused_in_one_line(body):
    with pytest.raises(UserError, match="."):
        parse_match(body, HELD)
