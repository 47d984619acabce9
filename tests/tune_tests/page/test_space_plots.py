"""Plots of the searched keys: categories, logarithms, keys that some trials lack, one trial alone."""

from __future__ import annotations

import dataclasses

from tests.tune_tests.page.made_searches import RUNGS, Page, write_search
from tune.page import space_plots
from tune.page.trials import shown_trials
from tune.results.histories import read_histories
from tune.results.importance import Importance, Influence


def test_importance_greys_what_cannot_be_told_from_noise(gallery):
    keys = Influence("optim.lr", 0.6, 0.4, 0.8, True), Influence("loss.layer", 0.1, 0.0, 0.2, False)
    plot = space_plots.importance(gallery, Importance(epoch=1, trials=24, keys=keys))
    words = Page(plot.picture).words
    assert words.index("60%") and "not told from noise" in words and {"optim.lr", "loss.layer"} <= set(words)
    assert "24 trials" in plot.note and "after epoch 1" in plot.note
    assert space_plots.GREY in plot.picture and space_plots.BEST in plot.picture


def test_values_are_on_the_axes_of_their_kind(gallery, tmp_path):
    made = write_search(tmp_path, trials=20)
    trials = shown_trials(made, read_histories(made, tmp_path), tmp_path)
    trials[3] = dataclasses.replace(trials[3], searched={"optim.lr": 0.01})  # the other keys are not searched in it
    parallel = Page(space_plots.parallel(gallery, trials, made, list(RUNGS), made.best.id).picture)
    assert {"flat", "linear", "lr", "val/accuracy"} <= set(parallel.words)
    slices = Page(space_plots.slices(gallery, trials, made, list(RUNGS), made.best.id).picture)
    assert {"flat", "linear", "hyperspherical"} <= set(slices.words)
    assert {"0.001", "0.01"} <= set(slices.words) and "1.0" in slices.words  # log, and not


def test_one_trial_alone_has_plots(gallery, tmp_path):
    made = write_search(tmp_path, trials=1)
    trials = shown_trials(made, read_histories(made, tmp_path), tmp_path)
    for draw in (space_plots.parallel, space_plots.slices):
        assert "flat" in Page(draw(gallery, trials, made, list(RUNGS), "000").picture).text
