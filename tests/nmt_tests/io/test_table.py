"""Columns as text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmt.io.table import aligned, columns, shortened, wrapped

words = st.text("abc é→", max_size=5).map(lambda text: text.strip().replace("  ", " "))


@given(st.integers(1, 5).flatmap(lambda n: st.lists(st.lists(words, min_size=n, max_size=n), min_size=1, max_size=5)))
def test_columns_line_up_and_every_cell_is_there(rows: list[list[str]]) -> None:
    for left in range(len(rows[0]) + 1):
        lines = aligned(rows, left=left).split("\n")
        widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
        assert len(lines) == len(rows) and not any(line.endswith(" ") for line in lines)
        for row, line in zip(rows, lines, strict=True):
            padded, at = line.ljust(sum(widths) + 2 * len(widths)), 0
            for k, width in enumerate(widths):
                cell = padded[at : at + width]
                assert cell == (row[k].ljust(width) if k < left else row[k].rjust(width))
                at += width + 2


def test_rows_of_different_lengths_are_an_error() -> None:
    with pytest.raises(ValueError, match="zip"):
        aligned([["a", "b"], ["c"]], left=1)


def test_a_wide_character_takes_two_columns() -> None:
    assert aligned([["鸟", "1"], ["abc", "22"]], left=1) == "鸟    1\nabc  22"
    assert columns("e\u0301") == 1 and columns("") == 0


@given(st.text("ab é鸟\u0301", max_size=80), st.integers(8, 40))
def test_a_long_text_keeps_its_beginning_and_its_end(text: str, most: int) -> None:
    short = shortened(text, most)
    if columns(text) <= most:
        assert short == text
    else:
        first, last = short.split("…")
        assert text.startswith(first) and text.endswith(last) and first and last
        assert most - 4 <= columns(short) <= most


def test_a_long_line_is_broken_at_blanks_only() -> None:
    name = "a-long/name-of-a-file." * 8
    lines = wrapped(f"note: {'word ' * 30}{name} end", indent="  ").splitlines()
    assert max(map(len, lines[:2])) <= 100 and name in " ".join(lines).split()
    assert all(line.startswith("  ") for line in lines[1:])
    assert wrapped("note: short", indent="  ") == "note: short"
