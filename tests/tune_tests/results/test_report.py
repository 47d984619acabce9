from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from tests.tune_tests.results.summaries import record, summary
from tune.results.report import render


def test_default_counts_at_its_own_decode_setting() -> None:
    found = summary(record(0, 0.6, accuracy_fixed_decode=0.55), record(1, 0.7, lr=0.01))
    assert found.gain_points == pytest.approx(15)
    assert "default configuration (trial 000): 55.0 % (60.0 % at its best decoding)" in render(found, Path("r"))


def test_table_shows_each_trial_at_its_own_decode_setting_and_at_the_best() -> None:
    lines = render(summary(record(0, 0.6, accuracy_fixed_decode=0.55)), Path("r")).splitlines()
    head = next(i for i, line in enumerate(lines) if "at its own decode" in line)
    assert lines[head + 1].split()[4:8] == ["60.0", "%", "55.0", "%"]


def test_gain_under_two_points_is_called_noise() -> None:
    assert "within noise" in render(summary(record(0, 0.60), record(1, 0.61)), Path("r"))
    assert "within noise" not in render(summary(record(0, 0.60), record(1, 0.70)), Path("r"))
    close = render(summary(record(0, 0.60), record(1, 0.70), record(2, 0.69)), Path("r"))
    assert "noise: one other trial is that close to the best" in close


def test_report_names_what_changed_and_what_to_type_next() -> None:
    text = render(summary(record(0, 0.5), record(1, 0.7, lr=0.02)), Path("results/toy"))
    assert "optim.lr 0.001 -> 0.02, decode.epsilon 0.035 -> 0.05" in text
    for command in ("--evaluate toy --split test", "--train results/toy/best.json", "tensorboard --logdir results/toy"):
        assert command in text
    assert "--results" not in text and "--data" not in text and "--search toy --resume" in text  # 2 of 4 trials


def test_a_search_without_a_test_split_offers_none() -> None:
    found = summary(record(0, 0.5), record(1, 0.7))
    text = render(dataclasses.replace(found, has_test=False), Path("elsewhere/toy"))
    assert (
        "--evaluate toy --results elsewhere  # the winner by category, on val: the data set has no test split" in text
    )
    assert "--split test" not in text and "--split test" in render(found, Path("elsewhere/toy"))
    assert "--match toy --images A.jpg B.jpg --keypoints A.csv B.csv --results elsewhere" in text


def test_table_shows_the_best_and_always_the_default() -> None:
    text = render(summary(*(record(n, 0.5 + n / 100) for n in range(30))), Path("r"))
    lines = text.splitlines()
    table = next(i for i, line in enumerate(lines) if "trial  state" in line)
    assert lines[table + 1].split()[:3] == ["best", "029", "COMPLETE"]
    assert lines[table + 21].split()[:2] == ["default", "000"] and "9 more in summary.json" in text


def test_failed_trials_show_their_reason_and_no_winner_is_invented() -> None:
    text = render(summary(record(0, None, state="FAIL", reason="the loss is no longer finite")), Path("r"))
    assert "000 failed: the loss is no longer finite" in text and "no winner" in text


def test_a_renamed_folder_is_evaluated_under_its_new_name_and_resumed_under_its_own() -> None:
    text = render(summary(record(0, 0.5), record(1, 0.7, lr=0.02)), Path("results/renamed"))
    assert "--evaluate renamed --split test" in text and "--results" not in text
    assert "mv results/renamed results/toy  # --resume looks for it there" in text
    assert text.index("mv results/renamed") < text.index("--search toy --resume")
