"""Repeated trainings as a plot and a table."""

from __future__ import annotations

from tests.tune_tests.evidence.confirmations import repeated
from tests.tune_tests.page.made_searches import Page
from tune.page.forest import forest, rows

DEFAULT = repeated("000", [0.60, 0.61, 0.62])


def test_intervals_are_those_of_the_table(gallery):
    better, same, failed = (
        repeated("001", [0.7, 0.72, 0.71]),
        repeated("002", [0.6, 0.63, 0.6]),
        repeated("003", [None] * 3),
    )
    found = {row["name"]: row for row in rows(DEFAULT, [better, same, failed], {}, better)}
    assert found["001"]["mark"] == "winner" and found["001"]["difference"] == "+10.0 [+7.5, +12.5]"
    assert found["002"]["noise"] and not found["001"]["noise"] and found["003"]["accuracy"] == "-"
    plot = Page(forest(gallery, "confirmation", DEFAULT, [better, same, failed], "", {}).picture)
    assert {"000", "001", "002", "003"} <= set(
        plot.words
    ) and "difference to 000, in points, 95 % interval" in plot.words
