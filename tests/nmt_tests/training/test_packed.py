"""Packed trainings against the same trainings alone, on the toy data set."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from nmt.config import Config, DecodeConfig, with_overrides
from nmt.errors import UserError
from nmt.training.history import EpochResult
from nmt.training.loop import train
from nmt.training.packable import shape
from nmt.training.packed import Pack, train_packed
from nmt.training.trainer import DivergedError
from tests.nmt_tests.toy_training import SMALL

BASE = SMALL | {
    "model.feature_projection": 8,
    "train.steps_per_epoch": 5,
}
OWN: list[dict[str, Any]] = [
    {},
    {"optim.lr": 2e-2, "optim.weight_decay": 0.1, "loss.temperature": 0.4, "loss.reduction": "pairs"},
    {"optim.milestones": [1], "optim.gamma": 0.5, "optim.clip_norm": 0.3, "loss.layer_weighting": "linear"},
    {
        "optim.schedule": "cosine",
        "optim.warmup_epochs": 0.5,
        "loss.layer": 0.0,
        "loss.hyperspherical": 0.25,
        "decode.epsilon": 0.2,
    },
]
GRID = [DecodeConfig(sinkhorn_iterations=i, epsilon=0.1) for i in (0, 3, 10)]


def config(own: dict[str, Any], **changes: Any) -> Config:
    return with_overrides(Config(), BASE | own | {k.replace("__", "."): v for k, v in changes.items()}, source="test")


CONFIGS = [config(own) for own in OWN]
TIMES = ("seconds", "train/pairs_per_second", "inference_seconds")
"""what of the metrics is no function of the configuration; the last a pack cannot tell of one member"""


@pytest.fixture(scope="module")
def alone(toy_data: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Every configuration trained alone."""
    directories = [tmp_path_factory.mktemp("alone") for _ in CONFIGS]
    for each, directory in zip(CONFIGS, directories, strict=True):
        train(each, data=toy_data, directory=directory, decode_grid=GRID)
    return directories


def places(root: Path, number: int = len(CONFIGS)) -> list[Path]:
    return [root / str(k) for k in range(number)]


def history(directory: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in TIMES} for line in lines]


def assert_same(directory: Path, expected: Path, *, epochs: int = 3) -> None:
    """Equal metrics at every epoch, and equal weights and optimizer at the end of the last."""
    got, wanted = history(directory), history(expected)[:epochs]
    assert len(got) == len(wanted)
    for one, other in zip(got, wanted, strict=True):
        numbers = {k: v for k, v in other.items() if not isinstance(v, str)}
        assert one.keys() == other.keys()
        assert {k: one[k] for k in numbers} == pytest.approx(numbers, rel=1e-4, abs=1e-5)
    if len(got) == len(history(expected)):
        one, other = (torch.load(d / "checkpoint.pt", weights_only=True) for d in (directory, expected))
        torch.testing.assert_close(one["model"], other["model"], rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(one["optimizer"]["state"], other["optimizer"]["state"], rtol=1e-2, atol=1e-4)
        assert one["optimizer"]["param_groups"] == other["optimizer"]["param_groups"]


def kinds(directory: Path) -> set[str]:
    """The files there, events without their time."""
    return {"events" if "tfevents" in path.name else path.name for path in directory.iterdir()}


def test_packed_trainings_equal_the_same_trained_alone_in_all_they_leave(alone, toy_data, tmp_path):
    reports: list[tuple[int, int]] = []
    results = train_packed(
        CONFIGS,
        data=toy_data,
        directories=places(tmp_path),
        decode_grid=GRID,
        on_epoch=lambda k, report: reports.append((k, report.epoch)),
    )
    assert reports == [(k, epoch) for epoch in (1, 2, 3) for k in range(4)]
    for result, directory, expected in zip(results, places(tmp_path), alone, strict=True):
        assert_same(directory, expected)
        assert kinds(directory) == kinds(expected)
        assert (directory / "config.json").read_text() == (expected / "config.json").read_text()
        assert (directory / "checkpoint.pt").stat().st_size < 1.1 * (expected / "checkpoint.pt").stat().st_size
        assert isinstance(result, EpochResult)
        assert result.metrics["val/accuracy"] == max(line["val/accuracy"] for line in history(directory))


def test_a_member_that_diverges_fails_alone(alone, toy_data, tmp_path):
    wild = config({}, optim__lr=1.0, loss__temperature=1e-44)
    configs = [CONFIGS[0], wild, *CONFIGS[1:]]
    results = train_packed(configs, data=toy_data, directories=places(tmp_path, 5), decode_grid=GRID)
    assert isinstance(results[1], DivergedError)
    assert "optim.lr (now 1)" in str(results[1])
    assert not (tmp_path / "1" / "best.pt").exists()
    for k, expected in zip((0, 2, 3, 4), alone, strict=True):
        assert_same(tmp_path / str(k), expected)


def test_members_end_at_different_epochs_and_go_on_from_there(alone, toy_data, tmp_path):
    def first_epochs(k: int, report: EpochResult) -> bool:
        return report.epoch < (1, 3, 2, 3)[k]

    where = {"data": toy_data, "directories": places(tmp_path), "decode_grid": GRID}
    train_packed(CONFIGS, on_epoch=first_epochs, **where)
    assert [len(history(d)) for d in places(tmp_path)] == [1, 3, 2, 3]
    for directory, expected, epochs in zip(places(tmp_path), alone, (1, 3, 2, 3), strict=True):
        assert_same(directory, expected, epochs=epochs)
    train_packed(CONFIGS, resume=True, **where)
    for directory, expected in zip(places(tmp_path), alone, strict=True):
        assert_same(directory, expected)


def test_a_packed_training_goes_on_alone_and_one_alone_goes_on_packed(alone, toy_data, tmp_path):
    train_packed(CONFIGS[:2], data=toy_data, directories=places(tmp_path, 2), until=1, decode_grid=GRID)
    for each, directory in zip(CONFIGS[2:], places(tmp_path)[2:], strict=True):
        train(each, data=toy_data, directory=directory, until=1, decode_grid=GRID)
    for each, directory in zip(CONFIGS[:2], places(tmp_path, 2), strict=True):
        train(each, data=toy_data, directory=directory, resume=True, decode_grid=GRID)
    train_packed(CONFIGS[2:], data=toy_data, directories=places(tmp_path)[2:], resume=True, decode_grid=GRID)
    for directory, expected in zip(places(tmp_path), alone, strict=True):
        assert_same(directory, expected)


def test_a_pack_interrupted_in_mid_epoch_resumes_at_the_exact_step(alone, toy_data, tmp_path, monkeypatch):
    steps, original = 0, Pack.train_step

    def step_then_signal(self: Pack, batch: Any) -> None:
        nonlocal steps
        steps += 1
        if steps == 8:
            os.kill(os.getpid(), signal.SIGTERM)
        original(self, batch)

    where = {"data": toy_data, "directories": places(tmp_path), "decode_grid": GRID}
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Pack, "train_step", step_then_signal)
        train_packed(CONFIGS, **where)
    progress = torch.load(tmp_path / "0" / "checkpoint.pt", weights_only=True)["progress"]
    assert (progress["epoch"], progress["step"]) == (1, 3)
    train(CONFIGS[0], data=toy_data, directory=tmp_path / "0", resume=True, until=2, decode_grid=GRID)  # now ahead
    train_packed(CONFIGS, resume=True, **where)
    for directory, expected in zip(places(tmp_path), alone, strict=True):
        assert_same(directory, expected)


LATE = {"data.pairs": "union", "data.outliers": 0.7, "data.cross": 0.2, "data.outliers_from": 0}


@pytest.mark.parametrize(
    "changes",
    [
        {"loss.matching": "sinkhorn"},
        {"model.spline": False, "data.pad_keypoints": 11},
        LATE | {"loss.unmatched": "dustbin"},
    ],
)
def test_other_models_and_losses_pack_too(changes, toy_data, tmp_path):
    configs = [config({**own, **changes, "train.epochs": 1}) for own in OWN[:2]]
    train_packed(configs, data=toy_data, directories=places(tmp_path, 2))
    for each, directory in zip(configs, places(tmp_path, 2), strict=True):
        train(each, data=toy_data, directory=tmp_path / "alone" / directory.name)
        assert_same(directory, tmp_path / "alone" / directory.name)


def test_what_members_cannot_differ_in_is_named(toy_data, tmp_path):
    for key, value in (("model.decoder_layers", 3), ("train.seed", 1), ("loss.matching", "sinkhorn")):
        other = config({key: value})
        assert shape(other) != shape(CONFIGS[0])
        with pytest.raises(UserError, match=f"packed trials share {key}, but got"):
            train_packed([CONFIGS[0], other], data=toy_data, directories=places(tmp_path, 2))
    assert len({shape(each) for each in CONFIGS}) == 1
    with pytest.raises(UserError, match="need data.mode = 'features', but it is 'images'"):
        train_packed([config({"data.mode": "images"})], data=toy_data, directories=places(tmp_path, 1))
    assert not any(tmp_path.iterdir())
