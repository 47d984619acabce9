from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from nmt.config import Config, load_config, to_dict, with_overrides
from nmt.errors import UserError
from nmt.training.history import best_epoch, read_metrics
from tune.results.report import render
from tune.results.summary import Summary, TrialRecord, load_summary


def record(
    number: int, accuracy: float | None, *, state: str = "COMPLETE", lr: float = 1e-3, **more: Any
) -> TrialRecord:
    config = with_overrides(Config(), {"optim.lr": lr}, source="test")
    decode = {"decode/sinkhorn_iterations": 10, "decode/epsilon": 0.05, "decode/assignment": "argmax"}
    metrics = {} if accuracy is None else {"epoch": 3, "val/accuracy": accuracy, **decode}
    values = {
        "id": f"{number:03d}",
        "state": state,
        "searched": {"optim.lr": lr},
        "configuration": to_dict(config),
        "best": metrics,
        "last": metrics,
        "accuracy_fixed_decode": accuracy,
        "epochs": 4,
        "seconds": 2.5,
        "seed": 0,
        "checkpoint": None,
        "reason": None,
    }
    return TrialRecord(**(values | more))


def summary(*trials: TrialRecord) -> Summary:
    return Summary(
        name="toy",
        description="a toy",
        data="data/toy",
        space={"optim.lr": "0.0001 to 0.1 (log)", "decode.epsilon": "0.01, 0.05"},
        search={
            "sampler": "tpe",
            "scheduler": "asha",
            "trials": 4,
            "epochs": 0,
            "hours": 0.0,
            "gpu_hours": 0.0,
            "patience": 0,
            "seed": 0,
            "grace_epochs": 1,
            "reduction_factor": 3,
        },
        resources={"cpus": 1, "gpus": 0.0, "workers": 1},
        epochs=4,
        seconds=12.0,
        trials=trials,
    )


def test_best_is_the_highest_complete_trial_and_the_earliest_of_equals() -> None:
    found = summary(record(0, 0.5), record(1, 0.7), record(2, 0.7), record(3, 0.9, state="PRUNED"), record(4, None))
    assert found.best is not None and found.best.id == "001"
    assert found.gain_points == pytest.approx(20)


def test_default_counts_at_its_own_decode_setting() -> None:
    found = summary(record(0, 0.6, accuracy_fixed_decode=0.55), record(1, 0.7, lr=0.01))
    assert found.gain_points == pytest.approx(15)
    assert "default configuration (trial 000): 55.0 % (60.0 % at its best decode setting)" in render(found, Path("r"))


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


def test_table_shows_the_best_and_always_the_default() -> None:
    text = render(summary(*(record(n, 0.5 + n / 100) for n in range(30))), Path("r"))
    lines = text.splitlines()
    table = next(i for i, line in enumerate(lines) if "trial  state" in line)
    assert lines[table + 1].split()[:3] == ["best", "029", "COMPLETE"]
    assert lines[table + 21].split()[:2] == ["default", "000"] and "9 more in summary.json" in text


def test_failed_trials_show_their_reason_and_no_winner_is_invented() -> None:
    text = render(summary(record(0, None, state="FAIL", reason="the loss is no longer finite")), Path("r"))
    assert "000 failed: the loss is no longer finite" in text and "no winner" in text


def test_summary_returns_from_its_file_as_it_was(tmp_path: Path) -> None:
    found = summary(record(0, 0.5), record(1, 0.7))
    found.save(tmp_path)
    assert load_summary(tmp_path) == found
    assert json.loads((tmp_path / "summary.json").read_text())["best"] == "001"


def test_best_json_is_the_winner_with_its_best_decode_setting(tmp_path: Path) -> None:
    summary(record(0, 0.5), record(1, 0.7, lr=0.02)).save(tmp_path)
    config = load_config(tmp_path / "best.json")
    assert config.optim.lr == 0.02
    assert dataclasses.astuple(config.decode) == (10, 0.05, "argmax")


def test_no_best_json_without_a_complete_trial(tmp_path: Path) -> None:
    summary(record(0, 0.5, state="PRUNED")).save(tmp_path)
    assert not (tmp_path / "best.json").exists()


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"trials": [{}], "best": null, "gain_points": null}'])
def test_damaged_summary_is_a_users_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "summary.json").write_text(content)
    with pytest.raises(UserError, match="not the summary of a search"):
        load_summary(tmp_path)


def test_missing_summary_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no search has run there; run one with: python run.py --search"):
        load_summary(tmp_path)


def test_line_cut_short_is_no_epoch(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"epoch": 1}\n{"epoch": 2')
    assert read_metrics(tmp_path) == [{"epoch": 1}]
    assert read_metrics(tmp_path / "absent") == []


def test_best_epoch_is_the_first_of_equals_and_never_nan() -> None:
    values = [0.3, 0.5, float("nan"), 0.5]
    history = [{"epoch": e, "val/accuracy": v} for e, v in enumerate(values, start=1)]
    assert best_epoch(history)["epoch"] == 2 and best_epoch([]) == {}
