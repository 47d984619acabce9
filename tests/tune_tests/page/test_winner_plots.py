"""Plots of the winner: its categories, and its decodings."""

from __future__ import annotations

from tests.tune_tests.page.made_searches import Page
from tune.page import winner_plots


def test_categories_show_the_difference_in_points_the_largest_gain_first(gallery):
    best, default = {"cup": 0.9, "a$b": 0.5, "new": 1.0}, {"cup": 0.8, "a$b": 0.52, "old": 0.1}
    words = Page(winner_plots.categories(gallery, best, default, "014").picture).words
    assert {"+10.0", "-2.0", "cup", "a$b"} <= set(words) and "new" not in words and "old" not in words
    assert words.index("cup") < words.index("a$b") and "best: trial 014" in words


def test_every_decoding_is_in_the_map_of_its_assignment(gallery, usual_grid):
    accuracy = {setting: 0.5 + 0.1 * k for k, setting in enumerate(usual_grid)}
    plot = winner_plots.decodings(gallery, accuracy, "of trial 014 on 40 pairs")
    words = Page(plot.picture).words
    assert {"50.0", "60.0", "70.0", "80.0", "assignment argmax", "Sinkhorn iterations"} <= set(words)
    assert "40 pairs" in plot.note
