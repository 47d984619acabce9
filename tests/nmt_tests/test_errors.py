"""Texts that error messages are made of."""

from nmt.errors import MAX_TEXT, nearest, one_line


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
