"""Trainings on train and val together, `data.train_split = "train+val"`: no validation, and the last epoch counts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from nmt import checkpoint
from nmt.config import DataConfig, with_overrides
from nmt.data.store.objects import ObjectStore
from nmt.data.stream.pairs import PairStream
from nmt.errors import UserError
from nmt.inference.evaluate import evaluate_checkpoint
from nmt.training.history import METRIC, EpochResult, best_epoch, read_metrics
from nmt.training.loop import train
from nmt.training.packed import train_packed
from nmt.training.plan import plan_training
from tests.nmt_tests.processes import run_together
from tests.nmt_tests.toy_training import SAME, history, small, weights

BOTH = small(data__train_split="train+val")


@pytest.fixture(scope="module")
def both(toy_data: Path, tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("both")
    report = train(BOTH, data=toy_data, directory=directory)
    assert report.epoch == 3
    return directory


def test_pairs_are_drawn_from_all_of_train_and_none_of_test(toy_store: ObjectStore):
    config = DataConfig(name="toy", mode="images", image_size=64, mixup=0.0, train_split="train+val")
    stream = PairStream(toy_store, config, split="train+val", seed=0)
    pairs = [stream.pair(0, k) for k in range(300)]
    splits = np.array([[toy_store.split[pair.row0], toy_store.split[pair.row1]] for pair in pairs])
    assert set(splits.ravel().tolist()) == {0, 1}
    assert abs((splits == 1).mean() - 5 / 25) < 0.08 and (splits[:, 0] != splits[:, 1]).any(), "one pool of both"
    rows = toy_store.rows("train+val")
    assert [r.tolist() for r in rows] == [
        sorted([*a, *b]) for a, b in zip(toy_store.rows("train"), toy_store.rows("val"), strict=True)
    ]


def test_the_last_epochs_weights_count_and_nothing_is_validated(both):
    lines = read_metrics(both)
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    assert not any(key.startswith(("val/", "decode/", "inference")) for line in lines for key in line)
    assert best_epoch(lines) == lines[-1] and lines[-1]["train/loss"] < lines[0]["train/loss"]
    best = checkpoint.load(both / "best.pt")
    assert best["epoch"] == 3 and all(torch.equal(best["model"][k], v) for k, v in weights(both).items())
    assert best["config"]["decode"] == {
        "sinkhorn_iterations": 27, "epsilon": 0.035, "assignment": "argmax", "unmatched": "off",
    }  # fmt: skip
    events = EventAccumulator(str(both)).Reload().Tags()
    assert "while_training/loss" in events["scalars"] and not [
        tag for tag in events["scalars"] if tag.startswith("val/")
    ]
    assert not events["images"]


def test_it_is_evaluated_on_test_and_refused_on_val(both, toy_data):
    assert evaluate_checkpoint(both / "best.pt", data=toy_data, split="test").mean["NMT"] > 0.3
    with pytest.raises(UserError, match=r"best\.pt: was trained on val too .*; evaluate it with --split test$"):
        evaluate_checkpoint(both / "best.pt", data=toy_data, split="val")


@pytest.mark.parametrize("lost", [None, "best.pt", "checkpoint.pt"])
def test_a_resumed_run_equals_an_uninterrupted_one(both, toy_data, tmp_path, lost):
    def stop(report: EpochResult) -> None:
        assert METRIC not in report.metrics
        if report.epoch == 2:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        train(BOTH, data=toy_data, directory=tmp_path, on_epoch=stop)
    assert checkpoint.load(tmp_path / "best.pt")["epoch"] == 2
    if lost == "best.pt":
        (tmp_path / lost).unlink()
    elif lost is not None:
        (tmp_path / lost).write_bytes((tmp_path / lost).read_bytes()[:100])
    train(BOTH, data=toy_data, directory=tmp_path, resume=True)
    assert history(tmp_path) == history(both)
    assert all(torch.equal(value, weights(tmp_path)[name]) for name, value in weights(both).items())
    assert checkpoint.load(tmp_path / "best.pt")["epoch"] == 3


def test_a_training_on_train_is_not_resumed_on_both(trained, toy_data, tmp_path):
    train(small(), data=toy_data, directory=tmp_path, until=1)
    with pytest.raises(UserError, match=r'data\.train_split is "train" in it and "train\+val" now'):
        train(BOTH, data=toy_data, directory=tmp_path, resume=True)


def test_packed_trainings_equal_those_alone(both, toy_data, tmp_path):
    other = with_overrides(BOTH, {"optim.lr": 1e-2}, source="test")
    reports = train_packed([BOTH, other], data=toy_data, directories=[tmp_path / "0", tmp_path / "1"])
    assert [report.epoch for report in reports if isinstance(report, EpochResult)] == [3, 3]
    for packed, alone in zip(history(tmp_path / "0"), history(both), strict=True):
        assert packed.keys() == alone.keys() and packed["train/loss"] == pytest.approx(alone["train/loss"], abs=1e-4)
    assert checkpoint.load(tmp_path / "1" / "best.pt")["epoch"] == 3


def _worker(rank: int, data: Path, directory: Path) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{directory}/rendezvous", rank=rank, world_size=2)
    train(small(**SAME, data__train_split="train+val"), data=data, directory=directory / "run")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_workers_end_with_the_parameters_of_one(toy_data, tmp_path):
    run_together(_worker, toy_data, tmp_path, count=2)
    train(small(**SAME, data__train_split="train+val"), data=toy_data, directory=tmp_path / "alone")
    one, two = weights(tmp_path / "alone"), weights(tmp_path / "run")
    assert max(float((one[name] - two[name]).abs().max()) for name in one) < 1e-5
    assert checkpoint.load(tmp_path / "run" / "best.pt")["epoch"] == 3


def test_the_plan_names_no_validation(toy_data, tmp_path):
    plan = str(plan_training(BOTH, data=toy_data, directory=tmp_path, resume=False))
    assert "objects, all trained on: no validation, the last epoch's weights count" in plan
    assert "a step; saving comes on top" in plan and "a validation" not in plan
    assert "no validation" not in str(plan_training(small(), data=toy_data, directory=tmp_path, resume=False))


def test_metrics_without_a_loss_or_an_accuracy_are_damage(tmp_path):
    (tmp_path / "metrics.jsonl").write_text(json.dumps({"epoch": 1}) + "\n")
    with pytest.raises(UserError, match="not the metrics of a training"):
        read_metrics(tmp_path)
