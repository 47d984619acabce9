from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.tune_tests.page.made_searches import write_search
from tests.tune_tests.results.summaries import record, summary
from tune.results.importance import Importance, Influence
from tune.results.report import importance_line, render


def test_default_counts_at_its_own_decode_setting() -> None:
    found = summary(record(0, 0.6, accuracy_fixed_decode=0.55), record(1, 0.7, lr=0.01))
    assert found.gain_points == pytest.approx(15)
    assert "default configuration (trial 000): 55.0 % (60.0 % at its best decoding)" in render(
        found, Path("r"), width=200
    )


def test_table_shows_each_trial_at_its_own_decode_setting_and_at_the_best() -> None:
    lines = render(summary(record(0, 0.6, accuracy_fixed_decode=0.55)), Path("r")).splitlines()
    head = next(i for i, line in enumerate(lines) if line.split()[:5] == ["trial", "state", "epochs", "val", "own"])
    assert lines[head + 1].split()[5:9] == ["60.0", "%", "55.0", "%"]
    assert "own: val at the trial's own decode.* values, as outside a search" in lines


def test_a_gain_that_luck_alone_shows_proves_nothing() -> None:
    def said(*accuracies: float, repeated: Sequence[Sequence[float]] = ()) -> str:
        trials = (record(n, value) for n, value in enumerate(accuracies))
        return " ".join(render(summary(*trials), Path("r"), width=100, repeated=repeated).split())

    assert "So the gain may be luck: no proof of a better configuration." in said(0.60, 0.61)
    close = said(0.60, 0.70, 0.69)
    assert "more than luck" in close and "one other trial is within noise of the best (2.8 points)" in close
    # 3 points are too much for the better of two equal trials, not for the best of sixteen; see test_luck.py.
    assert "more than luck" in said(0.60, 0.63) and "may be luck" in said(0.60, *[0.63] * 15)
    line = "Luck alone: +1.8 points expected of the best of 16 equal trials, over +3.6 in 1 search of 20 (noise of"
    assert line in said(0.60, *[0.63] * 15)
    assert "1.0 points over seeds: assumed; --confirm measures it)" in said(0.60, *[0.63] * 15)
    measured = said(0.60, *[0.63] * 15, repeated=[[0.600, 0.602, 0.604]])
    assert "noise of 0.2 points over seeds: measured by --confirm, 3 trainings" in measured
    assert "more than luck" in measured
    assert "The default configuration won." in said(0.60, 0.59)


def test_means_that_named_the_winner_are_shown() -> None:
    again = [record(2, 0.84, lr=1e-2, seed=7), record(3, 0.80, seed=7)]
    text = render(summary(record(0, 0.78), record(1, 0.90, lr=1e-2), *again), Path("results/toy"), width=400)
    assert "Named by the mean over seeds, trained again at the end: 001/002 87.0 % (90.0, 84.0), 000/003 79.0 %" in text
    assert "Best: trial 001" in text and "Difference: +9.0 points" in text
    assert "expected of the best of 2 equal trials" in text  # trained again is not tried again
    plain = render(summary(record(0, 0.78), record(1, 0.90, lr=1e-2)), Path("results/toy"), width=400)
    assert "Named by" not in plain and "Difference: +12.0 points" in plain


def test_report_names_what_changed_and_what_to_type_next() -> None:
    text = render(summary(record(0, 0.5), record(1, 0.7, lr=0.02)), Path("results/toy"))
    assert "optim.lr 0.001 -> 0.02, decode.epsilon 0.035 -> 0.05" in text
    for command in ("--evaluate toy --split test", "--train results/toy/best.json", "tensorboard --logdir results/toy"):
        assert command in text
    assert "--results" not in text and "--data" not in text and "--search toy --resume" in text  # 2 of 4 trials


def test_a_search_without_a_test_split_offers_none() -> None:
    found = summary(record(0, 0.5), record(1, 0.7))
    text = render(dataclasses.replace(found, has_test=False), Path("elsewhere/toy"))
    why = "the winner by category, on val: the data set has no test split"
    assert f"  # {why}\n  python run.py --evaluate toy --results elsewhere\n" in text, "too long for one line"
    wide = render(dataclasses.replace(found, has_test=False), Path("elsewhere/toy"), width=160)
    assert f"--evaluate toy --results elsewhere  # {why}" in wide
    assert "--split test" not in text and "--split test" in render(found, Path("elsewhere/toy"))
    assert "--match toy --images A.jpg B.jpg --keypoints A.csv B.csv --results elsewhere" in text


def test_table_shows_the_best_and_always_the_default() -> None:
    text = render(summary(*(record(n, 0.5 + n / 100) for n in range(30))), Path("r"))
    lines = text.splitlines()
    table = next(i for i, line in enumerate(lines) if line.split()[:2] == ["trial", "state"])
    assert lines[table + 1].split()[:4] == ["1", "029", "best", "COMPLETE"]
    assert lines[table + 21].split()[:3] == ["30", "000", "default"] and "9 more in summary.json" in text


def test_failed_trials_show_their_reason_and_no_winner_is_invented() -> None:
    text = render(summary(record(0, None, state="FAIL", reason="the loss is no longer finite")), Path("r"))
    assert "000 failed: the loss is no longer finite" in text and "no winner" in text


def test_a_renamed_folder_is_evaluated_under_its_new_name_and_resumed_under_its_own() -> None:
    text = render(summary(record(0, 0.5), record(1, 0.7, lr=0.02)), Path("results/renamed"))
    assert "--evaluate renamed --split test" in text and "--results" not in text
    assert "mv results/renamed results/toy  # --resume looks for it there" in text
    assert text.index("mv results/renamed") < text.index("--search toy --resume")


def test_no_line_is_longer_than_the_terminal_but_a_command() -> None:
    losses = ("layer", "temperature", "hyperspherical", "info_nce", "layer_weighting")
    keys = {f"loss.{name}": "0 to 1" for name in losses} | {"model.mlp_multiplier": "1 to 8"}
    keys["optim.lr"] = "any of " + ", ".join(f"{n / 1e6:.6f}" for n in range(40))
    values = dict.fromkeys(keys, 0.123456)
    trials = [
        record(n, 0.5 + n / 100, searched=values | {"loss.layer_weighting": "a text that is long"}) for n in range(4)
    ]
    trials.append(record(4, None, state="FAIL", reason="a reason " * 40))
    found = dataclasses.replace(summary(*trials), space=keys, description="words " * 40)
    for width in (80, 100, 160):
        text = render(found, Path("a folder with a long name and blanks/toy"), width=width)
        lines = [line for line in text.splitlines() if not line.startswith(("  python", "  mv", "  tensorboard"))]
        assert max(map(len, lines)) <= width, max(lines, key=len)
        assert "--results 'a folder with a long name and blanks'" in text, "a command is never broken"


def test_a_solved_validation_says_over_how_many_pairs() -> None:
    found = dataclasses.replace(summary(record(0, 0.9), record(1, 1.0), record(2, 0.9996)), val_pairs=40)
    text = " ".join(render(found, Path("r")).split())
    assert "val/accuracy 100.0 % over 40 pairs" in text and "2 trials solve the validation of 40 pairs" in text
    assert "solve" not in render(summary(record(0, 0.9), record(1, 0.999)), Path("r"))


def influence(key: str, share: float, told: bool) -> Influence:
    return Influence(key, share, share / 2, min(1.0, 2 * share), told)


def test_the_most_important_parameter_says_whether_it_can_be_told_from_noise() -> None:
    keys = (influence("optim.lr", 0.4, True), influence("loss.layer", 0.2, True), influence("model.heads", 0.1, False))
    line = importance_line(Importance(epoch=2, trials=16, keys=keys), width=400)
    assert line == (
        "Most important: optim.lr explains 40 % of the differences between 16 trials at epoch 2 (95 % interval 20 to "
        "80 %); then loss.layer (20 %). Not told from noise: model.heads."
    )
    none = importance_line(Importance(epoch=1, trials=9, keys=keys[2:]), width=400)
    assert none.startswith("Most important: no key can be told from noise yet. model.heads explains 10 %")
    assert importance_line(Importance(epoch=0, trials=3, keys=()), width=400) == ""


def test_the_importance_of_a_stage_reads_the_folders_of_its_trials(tmp_path: Path) -> None:
    stage = tmp_path / "images"
    stage.mkdir()
    made = write_search(stage)
    whole, alone = render(made, tmp_path, trials=stage, advice=False), render(made, stage, advice=False)
    assert whole == alone and "Most important: optim.lr" in whole
    assert whole != render(made, tmp_path, advice=False), "records alone hold the best and the last epoch"
