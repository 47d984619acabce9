"""Durations as people say them."""

from __future__ import annotations

import pytest

from nmt.durations import in_words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.1234, "0.12 s"), (8.26, "8.3 s"), (25.4, "25 s"), (99, "99 s"), (240, "4 min"), (122_400, "34 h")],
)
def test_a_duration_is_rounded(seconds, words):
    assert in_words(seconds) == words
