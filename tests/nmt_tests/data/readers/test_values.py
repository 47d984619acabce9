"""Values of annotations: right ones are converted, wrong ones are one line with the field."""

from __future__ import annotations

import math

import pytest

from nmt.data.readers.values import as_dict, as_label, as_list, as_name, as_number, as_point, as_size
from nmt.errors import UserError


@pytest.mark.parametrize(("value", "number"), [(1, 1.0), (2.5, 2.5), ("-3e2", -300.0), (" 7 ", 7.0), ("inf", math.inf)])
def test_numbers_may_be_text(value, number):
    assert as_number(value, "f") == number and type(as_number(value, "f")) is float


@pytest.mark.parametrize("value", [True, None, "", "left", "1,5", "1_0", [1], {}, 10**400])
def test_what_is_no_number_names_the_field(value):
    with pytest.raises(UserError, match=r"^a\.json: x must be a number, but is ") as error:
        as_number(value, "a.json: x")
    assert len(str(error.value)) < 120


def test_labels_are_composed_and_stripped():
    assert as_label(" O\u0308hr links ", "f") == "Öhr links"
    assert as_label("eye/left", "f", slashes=True) == "eye/left"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "f needs a name, but is missing"),
        (7, "f needs a name, but is 7"),
        ("  ", "f needs a name"),
        ("a\u00a0b", r"has a character that cannot be printed \(U\+00A0\); write it with plain letters"),
        ("a\nb", r"U\+000A"),
        ("\ud800", r"U\+D800"),
        ("TV/monitor", r"f must be a name without / and \\, but is 'TV/monitor'"),
        ("..", "f must be a name without"),
    ],
)
def test_what_is_no_label_is_one_line(value, message):
    with pytest.raises(UserError, match=message) as error:
        as_label(value, "f")
    assert len(str(error.value).splitlines()) == 1


def test_names_of_files_are_no_paths():
    assert as_name("a.jpg", "f") == "a.jpg"
    for value in ("a/b", "a\\b", "", ".", "..", "a\0", 3):
        with pytest.raises(UserError, match="^f must be a name"):
            as_name(value, "f")


def test_objects_lists_and_points():
    assert as_dict({"a": 1}, "f") == {"a": 1} and as_list([1], "f") == [1] and as_point([1, "2"], "f") == (1.0, 2.0)
    for check, value, message in (
        (as_dict, [], "f must be an object"),
        (as_list, {}, "f must be a list, but"),
        (as_point, [1, 2, 3], "f must be a list of 2"),
        (as_point, [1, None], "f must be a number, but is missing"),
    ):
        with pytest.raises(UserError, match=message):
            check(value, "f")


def test_sizes_are_whole_numbers_of_pixels_however_they_are_written():
    assert as_size(640, 480) == as_size(640.0, "480") == as_size("640", " 480.0") == (640, 480)
    for width in (None, 0, -1, 40.5, "wide", True, [640], math.nan, math.inf, 10**400):
        assert as_size(width, 480) is as_size(480, width) is None
