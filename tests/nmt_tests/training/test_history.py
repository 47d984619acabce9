from __future__ import annotations

from pathlib import Path

from nmt.training.history import best_epoch, read_metrics


def test_line_cut_short_is_no_epoch(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"epoch": 1}\n{"epoch": 2')
    assert read_metrics(tmp_path) == [{"epoch": 1}]
    assert read_metrics(tmp_path / "absent") == []


def test_best_epoch_is_the_first_of_equals_and_never_nan() -> None:
    values = [0.3, 0.5, float("nan"), 0.5]
    history = [{"epoch": e, "val/accuracy": v} for e, v in enumerate(values, start=1)]
    assert best_epoch(history)["epoch"] == 2 and best_epoch([]) == {}
