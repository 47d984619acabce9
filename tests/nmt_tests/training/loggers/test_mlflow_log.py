"""Runs of MLflow as its own client reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nmt.training.logger import Run
from nmt.training.loggers.chosen import Loggers
from nmt.training.loggers.mlflow_log import DEFAULTS, name_of
from tests.nmt_tests.toy_training import small


def client(root: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    for name, value in DEFAULTS.items():
        monkeypatch.setenv(name, value)
    import mlflow

    return mlflow.MlflowClient(tracking_uri=(root / "mlruns").as_uri())


@pytest.mark.slow
def test_a_resumed_training_continues_its_run_and_the_step_is_the_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    root = tmp_path / "demo"
    config, history = small(train__loggers=["mlflow"]), []
    for number, epochs in ((3, (1, 2)), (3, (3,)), (4, (4,))):  # the logger of trial 4 is added when it is resumed
        folder = root / f"trials/{number:03d}"
        folder.mkdir(parents=True, exist_ok=True)
        run = Run(directory=folder, root=root, config={"optim.lr": 0.5}, history=tuple(history))
        loggers = Loggers(config, run)
        for epoch in epochs:
            metrics = {"val/accuracy": epoch / 10, "val/accuracy/it's": 0.5, "decode/assignment": "argmax"}
            loggers.scalars(metrics, epoch)
            loggers.picture("val/matches", np.zeros((8, 8, 3), np.uint8), epoch, "a → b")
            history.append({"epoch": epoch, **metrics})
        loggers.close()
    assert not caplog.messages
    found = client(root, monkeypatch)
    (experiment,) = [e for e in found.search_experiments() if e.name == "demo"]
    runs = {run.info.run_name: run for run in found.search_runs([experiment.experiment_id])}
    assert set(runs) == {"trials/003", "trials/004"}
    for name, steps in (("trials/003", [1, 2, 3]), ("trials/004", [1, 2, 3, 4])):
        run_id = runs[name].info.run_id
        points = found.get_metric_history(run_id, "val/accuracy")
        assert [(m.step, m.value) for m in points] == [(step, pytest.approx(step / 10)) for step in steps]
        assert runs[name].data.params == {"optim.lr": "0.5"} and runs[name].info.status == "FINISHED"
        assert runs[name].data.metrics["val/accuracy.it_s"] == 0.5
    pictures = found.list_artifacts(runs["trials/003"].info.run_id, "val/matches")
    assert [Path(picture.path).name for picture in pictures] == ["0001.png", "0002.png", "0003.png"]


def test_no_metric_is_named_like_the_folder_of_another() -> None:
    metrics = ["val/accuracy", "val/accuracy/a/b", "val/accuracy_fixed_decode", "train/loss", "train/loss/layer"]
    names = [name_of(metric) for metric in metrics]
    assert len(set(names)) == len(names)
    assert not [(a, b) for a in names for b in names if b.startswith(f"{a}/")]
