"""Plots of how a search went, where their content is at its edges."""

from __future__ import annotations

from tests.tune_tests.page.made_searches import RUNGS, Page, write_search
from tune.page import search_plots
from tune.page.timeline import spans
from tune.page.trials import shown_trials
from tune.results.histories import read_histories


def test_states_the_winner_and_the_default_are_named(gallery, tmp_path):
    made = write_search(tmp_path, running=True)
    trials = shown_trials(made, read_histories(made, tmp_path), tmp_path)
    plot = Page(search_plots.history(gallery, trials, made.best.id).picture)
    for word in ("complete", "paused", "running", "failed (no result)", "best so far", "best", "default"):
        assert word in plot.words
    curves = Page(search_plots.curves(gallery, trials, list(RUNGS), made.best.id).picture)
    assert f"best: trial {made.best.id}" in curves.words and "reached epoch 3" in curves.words


def test_times_have_the_unit_that_suits_them(gallery, tmp_path):
    made = write_search(tmp_path, trials=4)
    trials = shown_trials(made, read_histories(made, tmp_path), tmp_path)
    found = spans(trials, tmp_path)
    plot = Page(search_plots.timeline(gallery, found, trials, list(RUNGS)).picture)
    assert "seconds since the search began" in plot.text and "003" in plot.words
    later = [type(s)(s.trial, s.start, s.end + 8000, s.first, s.last) for s in found]
    assert "hours since" in Page(search_plots.timeline(gallery, later, trials, list(RUNGS)).picture).text


def test_rungs_show_how_many_reached_them(gallery):
    plot = Page(search_plots.survival(gallery, [(1, 24, 8, 16), (3, 8, 2, 6), (9, 2, 0, 2)]).picture)
    assert {"epoch 1", "epoch 9", "24", "8", "2"} <= set(plot.words)
