import pytest

from nmt.unmatched import checked_unmatched, parse_unmatched


@pytest.mark.parametrize(
    ("value", "kind", "number"),
    [("off", "off", 0), ("f1", "f1", 0), ("precision=0.9", "precision", 0.9), (0.25, "value", 0.25), (1, "value", 1)],
)
def test_values_are_kept_as_text_and_read_back(value, kind, number):
    text = checked_unmatched(value)
    assert text == str(value) and parse_unmatched(text) == (kind, number)


@pytest.mark.parametrize(
    "value", ["on", "", "recall=0.9", "precision", "precision=1.2", "nan", -0.1, 2, True, None, []]
)
def test_anything_else_is_refused(value):
    assert checked_unmatched(value) is None
