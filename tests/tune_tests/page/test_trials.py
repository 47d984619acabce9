"""The trials as the page shows them."""

from __future__ import annotations

import dataclasses

import pytest

from tests.tune_tests.page.made_searches import write_search
from tests.tune_tests.results.summaries import record, summary
from tune.page.trials import categories, is_log, rungs_of, searched_keys, short_names, shown_trials, word
from tune.results.histories import read_histories
from tune.results.trial_table import is_swept


def test_ended_paused_and_running_trials_are_all_there(tmp_path):
    made = write_search(tmp_path, trials=12, running=True)
    shown = shown_trials(made, read_histories(made, tmp_path), tmp_path)
    assert [t.number for t in shown] == list(range(13))
    expected = {"COMPLETE": "complete", "PRUNED": "paused", "FAIL": "failed"}
    assert [t.state for t in shown] == [*(expected[t.state] for t in made.trials), "running"]
    assert shown[-1].searched == {"optim.lr": 0.004, "loss.layer_weighting": "linear", "loss.hyperspherical": 1.0}
    assert [t.epochs for t in shown[:-1]] == [t.epochs for t in made.trials]
    assert {t.rung for t in shown if t.state == "complete"} == {9}
    ended = dataclasses.replace(made, finished=True)
    assert "paused" not in {t.state for t in shown_trials(ended, read_histories(ended, tmp_path), tmp_path)}


@pytest.mark.parametrize(
    ("scheduler", "rungs"), [("asha", [1, 3, 4]), ("hyperband", [1, 3, 4]), ("ray_asha", [1, 3, 4]), ("fifo", [4])]
)
def test_rungs_are_those_of_the_settings(scheduler, rungs):
    made = summary(record(0, 0.5))
    assert rungs_of(dataclasses.replace(made, search=made.search | {"scheduler": scheduler})) == rungs


def test_keys_that_each_trial_tries_are_told_from_those_that_cost_a_training():
    made = summary(record(0, 0.5))
    assert is_swept("decode.epsilon", made) and searched_keys(made) == ["optim.lr"]
    assert is_log("optim.lr", made) and not is_log("decode.epsilon", made) and not is_log("unknown", made)


def test_values_have_short_names_and_words():
    assert short_names(["optim.lr", "a.x", "b.x"]) == {"optim.lr": "lr", "a.x": "a.x", "b.x": "b.x"}
    assert [word(v) for v in (0.012345, 3, True, "flat", [4, 6])] == ["0.0123", "3", "true", "flat", "[4, 6]"]
    assert categories([1, 2.5]) is None and categories([True, False]) == ["false", "true"]
    assert categories(["b", "a", "b"]) == ["a", "b"]
