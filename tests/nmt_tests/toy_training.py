"""A small training on the toy data set, and what two trainings are compared by."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from nmt import checkpoint
from nmt.config import Config, with_overrides

SMALL = {
    "data.name": "toy",
    "data.mode": "features",
    "data.image_size": 64,
    "data.pairs_per_step": 4,
    "data.eval_pairs": 12,
    "model.backbone": "tf_efficientnet_lite0",
    "model.weights": "random",
    "model.d_model": 24,
    "model.heads": 3,
    "model.decoder_layers": 2,
    "optim.lr": 5e-3,
    "optim.milestones": [2],
    "train.epochs": 3,
    "train.steps_per_epoch": 6,
    "train.seed": 5,  # the second epoch is better than the first
}


def small(**changes) -> Config:
    return with_overrides(Config(), SMALL | {k.replace("__", "."): v for k, v in changes.items()}, source="test")


def weights(directory: Path) -> dict[str, torch.Tensor]:
    return torch.load(directory / "checkpoint.pt", weights_only=True)["model"]


def same_weights(one: Path, other: Path) -> bool:
    """True if two checkpoints hold the same weights, bit by bit."""
    first, second = weights(one), weights(other)
    return first.keys() == second.keys() and all(torch.equal(value, second[name]) for name, value in first.items())


def comparable(metrics: dict) -> dict:
    """Without what time decides."""
    return {k: v for k, v in metrics.items() if k not in ("seconds", "train/pairs_per_second", "inference_seconds")}


def history(directory: Path) -> list[dict]:
    return [comparable(json.loads(line)) for line in (directory / "metrics.jsonl").read_text().splitlines()]


# Adam divides by the gradient's size, so a rate magnifies the last bits of gradients that are almost zero. At the
# published rate they differ by 1e-5 to 3e-5 between processors; a pair left out changes parameters by the rate itself.
SAME = {"optim__lr": 5e-5, "data__pairs_per_step": 5}


def assert_same_training(one: Path, other: Path) -> None:
    parameters = weights(one), weights(other)
    assert max(float((parameters[0][name] - parameters[1][name]).abs().max()) for name in parameters[0]) < 1e-5
    for before, after in zip(history(one), history(other), strict=True):
        for name in ("train/loss", "train/loss/info_nce", "train/loss/layer"):
            assert after[name] == pytest.approx(before[name], abs=1e-5)
        assert after["val/accuracy"] == before["val/accuracy"]
    before, after = (checkpoint.load(directory / "best.pt").get("calibration") for directory in (one, other))
    assert (before is None) == (after is None)
    if before is not None:
        assert after["pairs"] == before["pairs"]
        assert after["weights"] == pytest.approx(before["weights"], rel=0.1, abs=0.1)
