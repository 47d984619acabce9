"""Texts that error messages are made of."""

import difflib

from hypothesis import given
from hypothesis import strategies as st

from nmt.errors import MAX_TEXT, FailedError, UserError, nearest, one_line


def test_a_text_of_several_lines_becomes_one():
    assert one_line(ValueError("cannot read\n  line 3:\t bad\r\n")) == "cannot read line 3: bad"
    assert one_line("  syntax error\nnear `fi'\n") == "syntax error near `fi'"


def test_a_long_text_is_cut():
    assert one_line(RuntimeError("x y " * 1000)) == ("x y " * 1000)[:MAX_TEXT]


def test_an_error_without_a_text_is_named_by_its_class():
    assert one_line(EOFError()) == "EOFError"
    assert one_line(ValueError(" \n ")) == "ValueError"


def test_the_nearest_name_is_suggested_else_all_are_listed():
    assert nearest("wilow", ["voc", "willow"]) == "did you mean 'willow'?"
    assert nearest("faces", ["willow", "voc"]) == "known: voc, willow"
    assert nearest("faces", []) == "there are none yet"


names = st.lists(st.text("abcdefgh_.", min_size=4, max_size=12), min_size=1, max_size=6, unique=True)


@given(known=names, data=st.data())
def test_one_letter_wrong_in_a_long_name_is_hinted_at(known: list[str], data: st.DataObject) -> None:
    right = data.draw(st.sampled_from(known))
    place = data.draw(st.integers(0, len(right) - 1))
    wrong = right[:place] + "X" + right[place + 1 :]
    (closest,) = difflib.get_close_matches(wrong, sorted(known), n=1, cutoff=0.7)
    assert nearest(wrong, known) == f"did you mean {closest!r}?"


@given(names)
def test_a_name_that_is_like_none_is_answered_with_all_in_order(known: list[str]) -> None:
    assert nearest("ZZZZ", reversed(known)) == f"known: {', '.join(sorted(known))}"


def test_where_nothing_is_known_the_hint_says_so() -> None:
    assert nearest("anything", []) == "there are none yet"


def test_a_users_mistake_and_a_failed_job_are_told_apart() -> None:
    assert not issubclass(UserError, FailedError) and not issubclass(FailedError, UserError)
