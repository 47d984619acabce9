"""Trainings with the loggers that their configuration chooses."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch

from nmt.training.loop import train
from nmt.training.packed import train_packed
from tests.nmt_tests.toy_training import history, small, weights


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if not path.name.endswith(".pt")}


PLAIN = {"config.json", "data_set.json", "metrics.jsonl"}


@pytest.mark.slow
def test_loggers_change_no_result_and_may_change_at_a_resume(
    trained: Path, toy_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    first = small(train__loggers=["csv", "wandb"])
    train(first, data=toy_data, directory=tmp_path / "a", until=2)
    train(small(train__loggers=["mlflow", "csv"]), data=toy_data, directory=tmp_path / "a", resume=True)
    train(small(train__loggers=[]), data=toy_data, directory=tmp_path / "none")
    assert files(tmp_path / "none") == PLAIN
    assert files(tmp_path / "a") == PLAIN | {
        "metrics.csv", "wandb", "mlruns", "logger_wandb.json", "logger_mlflow.json"
    }  # fmt: skip
    for name in ("a", "none"):
        assert history(tmp_path / name) == history(trained)
        same = weights(tmp_path / name)
        assert all(torch.equal(same[key], value) for key, value in weights(trained).items())
    assert len((tmp_path / "a/metrics.csv").read_text().splitlines()) == 4


def test_a_logger_that_cannot_write_is_one_line_and_the_training_goes_on(
    trained: Path, toy_data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "metrics.csv").mkdir()
    train(small(train__loggers=["csv"]), data=toy_data, directory=tmp_path)
    assert history(tmp_path) == history(trained)
    (line,) = caplog.messages
    assert line.startswith(f"{tmp_path}: no csv log for now (") and line.endswith("; the training continues")


def test_packed_trainings_log_each_into_its_own_folder(toy_data: Path, tmp_path: Path) -> None:
    configs = [small(train__loggers=["csv"], optim__lr=lr, train__epochs=1) for lr in (1e-3, 5e-3)]
    folders = [tmp_path / "s/trials/000", tmp_path / "s/trials/001"]
    train_packed(configs, data=toy_data, directories=folders, root=tmp_path / "s")
    tables = [(folder / "metrics.csv").read_text() for folder in folders]
    assert all(table.count("\n") == 2 for table in tables)
    assert all(a != b for a, b in itertools.pairwise(tables))
