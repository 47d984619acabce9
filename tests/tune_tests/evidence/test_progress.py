"""The lines and the board of repeated trainings, from their folders."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nmt.config import Config, with_overrides
from tune.evidence import progress as module
from tune.evidence.progress import Progress


def train(directory: Path, *accuracies: float) -> None:
    """Leave what a training of so many epochs leaves."""
    directory.mkdir(exist_ok=True)
    lines = [json.dumps({"epoch": n + 1, "val/accuracy": a, "seconds": n}) + "\n" for n, a in enumerate(accuracies)]
    (directory / "metrics.jsonl").write_text("".join(lines))


def test_progress_is_read_from_the_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    labels = {tmp_path / name: f"{name}  seed 1" for name in ("done", "first", "second")}
    train(tmp_path / "done", 0.5, 0.6)
    config = with_overrides(Config(), {"train.epochs": 2}, source="test")
    jobs = {tmp_path / name: config for name in ("first", "second")}
    progress = Progress("toy/confirm", jobs, labels, at_once=1)
    board = progress.board
    assert progress.total == 4 and board.goal.epochs == 6 and board.epochs() == 2
    assert {row.name[:6].strip(): row.state for row in board.rows(9)} == {
        "first": "running", "second": "waits", "done": "complete"
    }  # fmt: skip
    train(tmp_path / "first", 0.7)
    progress.look()
    assert board.epochs() == 3 and not caplog.messages, "the last line is not long ago"
    monkeypatch.setattr(module, "LINE_SECONDS", -1.0)
    progress.look()
    assert caplog.messages[-1].endswith("s  1 of 4 epochs")
    train(tmp_path / "first", 0.7, 0.8)
    progress.ended(tmp_path / "first", "80.0 % at epoch 2", failed=False)
    assert caplog.messages[-1].endswith("s  first  seed 1  80.0 % at epoch 2")
    assert board.counts() == {"complete": 2, "running": 1} and board.epochs() == 4
    progress.ended(tmp_path / "second", "failed: out of memory", failed=True)
    assert board.counts()["failed"] == 1
