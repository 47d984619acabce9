"""One setting: what it allows, and what it says of a wrong value."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmt.errors import UserError
from nmt.settings import Setting, Text, check_names, differences, setting


def made(kind: type, **limits) -> Setting:
    plain = {"low": None, "high": None, "above": None, "choices": None, "inference": False}
    return Setting(key="a.b", type=kind, default=() if kind is tuple else None, doc="", **(plain | limits))


@pytest.mark.parametrize(
    ("entry", "allowed"),
    [
        (made(int, low=1, high=4), "an integer at least 1 and at most 4"),
        (made(float, above=0), "a number above 0"),
        (made(bool), "true or false"),
        (made(str, choices=("x", "y")), "one of x, y"),
        (made(str, text=Text("x or a number", lambda value: value if value == "x" else None)), "x or a number"),
        (made(tuple, choices=("x", "y")), "a list of x, y"),
        (made(tuple, low=0), "a list of integers at least 0"),
    ],
)
def test_the_allowed_values_are_named_in_words(entry, allowed):
    assert entry.allowed == allowed
    with pytest.raises(UserError, match=f"here: a.b must be {allowed}, but got"):
        entry.check({}, source="here")


@given(st.floats(), st.floats(-5, 5), st.floats(-5, 5))
def test_a_number_passes_exactly_where_it_lies_within_its_bounds(value, low, above):
    entry = made(float, low=low, above=above, high=4)
    if low <= value <= 4 and value > above:
        assert entry.check(value, source="here") == value
    else:
        with pytest.raises(UserError, match="a.b must be"):
            entry.check(value, source="here")


def test_a_value_takes_the_exact_type_where_that_loses_nothing():
    assert (found := made(float).check(3, source="")) == 3 and type(found) is float
    assert (found := made(int).check(3.0, source="")) == 3 and type(found) is int
    assert made(tuple).check([1, 2], source="") == (1, 2)
    for entry, value in ((made(int), 3.5), (made(int), True), (made(tuple), [1.0]), (made(bool), 1)):
        with pytest.raises(UserError, match="a.b must be"):
            entry.check(value, source="")


def test_a_field_keeps_its_default_and_its_meaning():
    @dataclasses.dataclass
    class Branch:
        size: int = setting(3, "how large", low=1)

    (field,) = dataclasses.fields(Branch)
    assert Branch().size == 3 and field.metadata["doc"] == "how large" and field.metadata["low"] == 1


def test_an_unknown_name_is_refused_with_the_nearest():
    check_names(["size"], ["size", "depth"], source="here")
    with pytest.raises(UserError, match="here: unknown key 'siez'; did you mean 'size'?"):
        check_names(["size", "siez"], ["size", "depth"], source="here")


def test_differences_name_the_first_key_and_count_the_others():
    one, other = {"a": 1, "b": [2], "c": 3}, {"a": 1, "b": [4]}
    assert differences(one, other) == "b is [2] in it and [4] now, and 1 more differ"
    assert differences({"c": 3}, {}) == "c is 3 in it and not there now"
    assert differences(one, dict(one)) == ""
