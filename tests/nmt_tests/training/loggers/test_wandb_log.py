"""Runs of W&B as its own reader of offline files shows them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nmt.training.logger import Run
from nmt.training.loggers.chosen import Loggers
from tests.nmt_tests.toy_training import small

KEY = "0123456789abcdef0123456789abcdef01234567"


def records(folder: Path) -> list[Any]:
    """Every record of the offline runs in a training's folder."""
    from wandb.proto import wandb_internal_pb2
    from wandb.sdk.internal.datastore import DataStore

    found = []
    for path in sorted(folder.glob("wandb/offline-run-*/run-*.wandb")):
        store = DataStore()
        store.open_for_scan(str(path))
        while (data := store.scan_data()) is not None:
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            found.append(record)
    return found


def values(record: Any) -> dict[str, Any]:
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}


@pytest.mark.slow
def test_a_resumed_training_continues_its_run_and_the_step_is_the_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    folder = tmp_path / "demo/trials/003"
    folder.mkdir(parents=True)
    config, history = small(train__loggers=["wandb"]), []
    for epochs in ((1, 2), (3,)):
        run = Run(directory=folder, root=tmp_path / "demo", config={"optim.lr": 0.5}, history=tuple(history))
        loggers = Loggers(config, run)
        for epoch in epochs:
            loggers.scalars({"val/accuracy": epoch / 10}, epoch)
            loggers.picture("val/matches", np.zeros((8, 8, 3), np.uint8), epoch, "a → b")
            history.append({"epoch": epoch, "val/accuracy": epoch / 10})
        loggers.close()
    assert not caplog.messages
    found = records(folder)
    runs = [record.run for record in found if record.HasField("run")]
    assert len({run.run_id for run in runs}) == 1 and len({str(p) for p in folder.glob("wandb/offline-run-*")}) == 2
    assert {(run.project, run.run_group, run.display_name) for run in runs} == {("nmt", "demo", "trials/003")}
    assert any(update.key == "optim.lr" for run in runs for update in run.config.update)
    steps = [(h["_step"], h["val/accuracy"]) for r in found if r.HasField("history") for h in [values(r)]]
    assert steps == [(1, 0.1), (2, 0.2), (3, 0.3)]
    assert not [p for p in tmp_path.rglob("*") if p.is_file() and KEY.encode() in p.read_bytes()]
