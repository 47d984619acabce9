"""The moving average of the weights, on the toy data set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from nmt import checkpoint
from nmt.errors import UserError
from nmt.inference.evaluate import MODEL, evaluate_checkpoint
from nmt.training import state
from nmt.training.loop import train
from nmt.training.packed import train_packed
from nmt.training.trainer import Trainer
from tests.nmt_tests.toy_training import SAME, history, small
from tests.nmt_tests.training.test_loop import _signal_in_step, train_together

EMA = SAME | {"train__ema": 0.8}


def average(directory: Path) -> dict[str, Tensor]:
    found: dict[str, Tensor] = torch.load(directory / "checkpoint.pt", weights_only=True)["average"]
    return found


def assert_close(one: dict[str, Tensor], other: dict[str, Tensor], limit: float) -> None:
    assert one.keys() == other.keys()
    assert max(float((one[name] - other[name]).abs().max()) for name in one) <= limit


@pytest.fixture(scope="module")
def averaged(toy_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("averaged")
    train(small(**EMA), data=toy_data, directory=directory)
    return directory


def test_the_average_follows_its_formula_and_keeps_the_decoders_on_the_sphere(toy_data: Path) -> None:
    trainer = Trainer(small(train__ema=0.3, optim__lr=5e-2), data=toy_data)
    assert trainer.average is not None and trainer.evaluated is trainer.average.matcher
    expected = {name: p.detach().clone() for name, p in trainer.matcher.named_parameters()}
    batches = list(trainer.batches())
    for trainer.progress.step, kept in enumerate((0.1, 2 / 11, 0.25, 0.3, 0.3)):
        trainer.train_step([part.to(trainer.device) for part in batches[trainer.progress.step]])
        for name, p in trainer.matcher.named_parameters():
            expected[name] = kept * expected[name] + (1 - kept) * p.detach()
            if name.startswith("head.decoder") and p.ndim == 2 and not name.endswith(".s"):
                dim = 0 if p.shape[0] == 24 else 1
                expected[name] = expected[name] / expected[name].norm(dim=dim, keepdim=True)
    found = dict(trainer.evaluated.named_parameters())
    for name, value in expected.items():
        torch.testing.assert_close(found[name].detach(), value, atol=1e-6, rtol=1e-5, msg=name)
    assert all((p >= 0).all() for name, p in found.items() if ".alpha_" in name)
    assert not torch.equal(found["head.node_linear.weight"], trainer.matcher.head.node_linear.weight)


def test_the_training_is_the_same_with_and_without_the_average(averaged: Path, alone: Path) -> None:
    one, other = (torch.load(d / "checkpoint.pt", weights_only=True) for d in (averaged, alone))
    assert_close(one["model"], other["model"], 0)
    assert [m["train/loss"] for m in history(averaged)] == [m["train/loss"] for m in history(alone)]
    assert "average" not in other


def test_best_weights_are_the_average_that_was_evaluated(averaged: Path, toy_data: Path) -> None:
    best = checkpoint.load(averaged / "best.pt")
    epochs = [metrics["val/accuracy"] for metrics in history(averaged)]
    assert best["metrics"]["val/accuracy"] == max(epochs)
    result = evaluate_checkpoint(averaged / "best.pt", data=toy_data, split="val")
    assert result.mean[MODEL] == pytest.approx(max(epochs))
    assert "average" not in best and "optimizer" not in best
    content = checkpoint.load(averaged / "checkpoint.pt")
    assert any(not torch.equal(value, content["model"][name]) for name, value in content["average"].items())


def test_a_training_interrupted_in_mid_epoch_continues_its_average(averaged: Path, toy_data: Path, tmp_path) -> None:
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Trainer, "train_step", Trainer.train_step)  # undone at the end
        _signal_in_step(9)
        train(small(**EMA), data=toy_data, directory=tmp_path)
    train(small(**EMA), data=toy_data, directory=tmp_path, resume=True)
    assert_close(average(tmp_path), average(averaged), 0)
    assert_close(*(checkpoint.load(d / "best.pt")["model"] for d in (tmp_path, averaged)), 0)
    assert history(tmp_path) == history(averaged)


def test_the_average_depends_neither_on_the_micro_batch_nor_on_the_workers(averaged, toy_data, tmp_path) -> None:
    train(small(**EMA, train__micro_batch=2), data=toy_data, directory=tmp_path / "parts")
    for directory in (tmp_path / "parts", train_together(2, small(**EMA), toy_data, tmp_path)):
        assert_close(average(directory), average(averaged), 1e-5)
        assert [m["val/accuracy"] for m in history(directory)] == [m["val/accuracy"] for m in history(averaged)]


def test_packed_trainings_have_the_averages_of_those_alone(averaged: Path, toy_data: Path, tmp_path: Path) -> None:
    directories = [tmp_path / "0", tmp_path / "1"]
    configs = [small(**EMA), small(**EMA, loss__layer=0.0)]
    for epoch in (1, 3):
        train_packed(configs, data=toy_data, directories=directories, until=epoch, resume=epoch > 1)
    assert_close(average(directories[0]), average(averaged), 1e-5)
    for one, other in zip(history(directories[0]), history(averaged), strict=True):
        assert one["val/accuracy"] == other["val/accuracy"]
    assert_close(*(checkpoint.load(d / "best.pt")["model"] for d in (directories[0], averaged)), 1e-5)
    assert (directories[0] / "checkpoint.pt").stat().st_size < 1.1 * (averaged / "checkpoint.pt").stat().st_size
    with pytest.raises(UserError, match="packed trials share train.ema, but got 0.8 and 0.9"):
        train_packed([configs[0], small(**EMA | {"train__ema": 0.9})], data=toy_data, directories=directories)


def test_lost_best_weights_are_written_again_from_the_average(averaged: Path, toy_data: Path, tmp_path: Path) -> None:
    config = small(**EMA, train__epochs=1)
    train(config, data=toy_data, directory=tmp_path)
    wanted = checkpoint.load(tmp_path / "best.pt")["model"]
    (tmp_path / "best.pt").unlink()
    train(config, data=toy_data, directory=tmp_path, resume=True)
    assert_close(checkpoint.load(tmp_path / "best.pt")["model"], wanted, 0)
    assert_close(wanted, average(tmp_path), 0)


@pytest.mark.parametrize("scale", [0.0, 0.1])
def test_a_frozen_backbone_is_shared_and_one_that_trains_is_averaged(toy_data: Path, tmp_path: Path, scale) -> None:
    changes: dict[str, Any] = {"data__mode": "images", "data__pairs_per_step": 2, "train__ema": 0.5}
    config = small(**changes, optim__backbone_lr_scale=scale)
    trainer = Trainer(config, data=toy_data)
    assert trainer.average is not None
    assert (trainer.average.matcher.backbone is trainer.matcher.backbone) == (scale == 0)
    trainer.train_step(next(trainer.batches()))
    state.save(trainer, tmp_path / "checkpoint.pt")
    assert any(name.startswith("backbone.") for name in average(tmp_path)) == (scale > 0)
    again = Trainer(config, data=toy_data)
    state.restore(again, tmp_path / "checkpoint.pt")
    assert_close(again.evaluated.state_dict(), trainer.evaluated.state_dict(), 0)
    assert all(p.requires_grad == (scale > 0) for p in trainer.matcher.backbone.parameters())
