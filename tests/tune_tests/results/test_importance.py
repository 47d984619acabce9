"""Importance: the parameter that matters comes first, those that do not are told from it, at any early stopping."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from tests.tune_tests.results.summaries import record, summary
from tune.results.importance import MIN_TRIALS, common_epoch, importance, search_importance


def draw(rng: np.random.Generator) -> dict[str, object]:
    """One real parameter and five of noise, of every kind."""
    return {
        "real": float(10 ** rng.uniform(-4, -1)),
        "noise.log": float(10 ** rng.uniform(-4, -1)),
        "noise.range": float(rng.uniform()),
        "noise.count": int(rng.integers(1, 5)),
        "noise.name": str(rng.choice(["flat", "linear", "late"])),
        "noise.flag": bool(rng.integers(2)),
    }


CURVES = {
    "rising": lambda u: 1.7 * u,
    "peaked": lambda u: -3.4 * u * u,
}


@pytest.mark.parametrize("curve", CURVES)
def test_one_real_parameter_comes_first_and_noise_is_greyed(curve):
    first = told = false = 0
    searches = 20
    for seed in range(searches):
        rng = np.random.default_rng(seed)
        searched = [draw(rng) for _ in range(40)]
        values = [CURVES[curve]((math.log10(s["real"]) + 2.5) / 1.5) + rng.normal() for s in searched]
        found = importance(searched, values, seed=seed)
        first += found[0].key == "real"
        told += found[0].key == "real" and found[0].told_from_noise
        false += any(influence.told_from_noise for influence in found if influence.key != "real")
    assert first >= searches - 1 and told >= searches - 2 and false <= 4  # 5 % of searches, by the binomial < 5


def test_a_category_and_a_truth_value_are_found_too():
    rng = np.random.default_rng(1)
    searched = [draw(rng) for _ in range(60)]
    effect = {"flat": 0.0, "linear": 1.5, "late": 0.3}
    values = [effect[s["noise.name"]] + 1.2 * s["noise.flag"] + 0.5 * rng.normal() for s in searched]
    found = importance(searched, values)
    assert {i.key for i in found[:2]} == {"noise.name", "noise.flag"} == {i.key for i in found if i.told_from_noise}


def test_shares_are_parts_of_the_whole_and_lie_in_their_intervals():
    rng = np.random.default_rng(2)
    searched = [draw(rng) for _ in range(80)]
    found = importance(searched, [math.log10(s["real"]) for s in searched])
    assert found[0].key == "real" and found[0].share > 0.85 and found[0].low > 0.75
    assert all(0 <= i.low <= i.share <= i.high <= 1 for i in found) and sum(i.share for i in found) < 1.05
    assert found == importance(searched, [math.log10(s["real"]) for s in searched])  # the same at each report


def test_a_key_that_only_some_trials_have_is_judged_by_those():
    rng = np.random.default_rng(3)
    searched = [draw(rng) for _ in range(90)]
    for values in searched[::2]:
        del values["real"]
    found = importance(searched, [math.log10(s.get("real", 0.003)) + 0.3 * rng.normal() for s in searched])
    assert found[0].key == "real" and found[0].told_from_noise


def test_too_few_trials_one_value_and_equal_results_have_no_importance():
    rng = np.random.default_rng(4)
    searched = [draw(rng) for _ in range(MIN_TRIALS)]
    assert importance(searched[1:], list(range(MIN_TRIALS - 1))) == []
    assert importance(searched, [0.5] * MIN_TRIALS) == []
    assert importance([{"real": 1.0}] * MIN_TRIALS, list(range(MIN_TRIALS))) == []


@pytest.mark.parametrize(
    ("reached", "epoch"),
    [([1, 1, 1, 3, 6], 1), ([6, 6, 6, 6], 6), ([3] * 10 + [6], 3), ([2] * 19 + [1], 2), ([], 0), ([0, 0], 0)],
)
def test_trials_are_compared_at_the_last_epoch_that_nearly_all_reached(reached, epoch):
    assert common_epoch([dict.fromkeys(range(1, last + 1), 0.5) for last in reached]) == epoch


def test_a_search_is_judged_at_its_rung_over_all_trials_and_failures_count_as_worst(tmp_path):
    rng = np.random.default_rng(5)
    records, histories = [], {}
    for number in range(40):
        lr = float(10 ** rng.uniform(-4, -1))
        searched = {"optim.lr": lr, "loss.temperature": float(rng.uniform())}
        value = 0.5 + 0.05 * math.log10(lr)
        failed = lr > 0.03
        trial = record(number, None if failed else value, state="FAIL" if failed else "PRUNED", searched=searched)
        records.append(trial)
        # Those that went on are ranked the other way round after it: the common epoch counts, not the last.
        later = [{"epoch": 3, "val/accuracy": 1 - value}] if number % 4 == 0 else []
        histories[trial.id] = [] if failed else [{"epoch": 1, "val/accuracy": value}, *later]
    found = search_importance(summary(*records), tmp_path, histories=histories)
    assert (found.epoch, found.trials) == (1, 40)
    assert [i.told_from_noise for i in found.keys] == [True, False] and found.keys[0].key == "optim.lr"
    nothing = search_importance(dataclasses.replace(summary(), trials=()), tmp_path)
    assert (nothing.epoch, nothing.trials, nothing.keys) == (0, 0, ())
