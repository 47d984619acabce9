"""Runs of W&B as its own reader of offline files shows them."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
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

    files = sorted(folder.glob("wandb/offline-run-*/run-*.wandb"))
    return [wandb_internal_pb2.Record.FromString(data) for path in files for data in leveldb_log(path.read_bytes())]


def leveldb_log(content: bytes) -> Iterator[bytes]:
    """The records of a file of LevelDB's log format, which W&B writes after a header of 7 bytes."""
    at, whole = 7, b""
    while at + 7 <= len(content):
        if 32768 - at % 32768 < 7:  # the end of a block has no room for a header
            at += 32768 - at % 32768
            continue
        _, length, kind = struct.unpack("<IHB", content[at : at + 7])
        whole += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            yield whole
            whole = b""


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
