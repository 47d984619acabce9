"""The end of a training: best.pt gets its calibration once, whatever happened before."""

from __future__ import annotations

import logging
import shutil

import pytest
import torch

from nmt import checkpoint
from nmt.confidence import Calibration
from nmt.errors import FailedError
from nmt.training import calibration as module
from nmt.training import loop
from nmt.training.loop import train
from nmt.training.packed import train_packed
from nmt.training.trainer import Trainer
from tests.nmt_tests.toy_training import small


@pytest.fixture
def finished(trained, tmp_path):
    """A copy of the finished training, which a test may change."""
    return shutil.copytree(trained, tmp_path / "finished")


def best(directory):
    return checkpoint.load(directory / "best.pt")


def same_best(one, other):
    one, other = best(one), best(other)
    weights = zip(one.pop("model").values(), other.pop("model").values(), strict=True)
    timed = ("seconds", "train/pairs_per_second", "inference_seconds")
    for content in (one, other):
        content["metrics"] = {k: v for k, v in content["metrics"].items() if k not in timed}
    return one == other and all(torch.equal(a, b) for a, b in weights)


def test_only_a_complete_training_has_a_calibration_and_a_resumed_one_has_the_same(trained, toy_data, tmp_path):
    train(small(), data=toy_data, directory=tmp_path, until=2)
    assert "calibration" not in best(tmp_path)
    train(small(), data=toy_data, directory=tmp_path, resume=True)
    assert same_best(tmp_path, trained)
    kept = Calibration.from_dict(best(trained)["calibration"], source="best.pt")
    assert kept.chosen == "f1" and len(kept.pairs) == 5


def test_a_packed_training_has_the_calibration_of_one_alone(trained, toy_data, tmp_path):
    train_packed([small(), small(optim__lr=1e-3)], data=toy_data, directories=[tmp_path / "0", tmp_path / "1"])
    one, other = (Calibration.from_dict(best(p)["calibration"], source="") for p in (tmp_path / "0", trained))
    assert one.pairs == other.pairs and one.weights == pytest.approx(other.weights, rel=0.05, abs=0.05)


def test_a_crash_before_the_fit_costs_no_training(finished, trained, toy_data, monkeypatch):
    content = best(finished)
    del content["calibration"]
    checkpoint.save(finished / "best.pt", content)
    (finished / "metrics.jsonl").unlink()  # written after the fit
    monkeypatch.setattr(loop.Trainer, "train_epoch", lambda *_, **__: pytest.fail("trained again"))
    train(small(), data=toy_data, directory=finished, resume=True)
    assert same_best(finished, trained)
    assert (finished / "metrics.jsonl").read_text() == (trained / "metrics.jsonl").read_text()


def test_a_crash_within_the_fit_leaves_a_training_that_goes_on(toy_data, trained, tmp_path, monkeypatch):
    def killed(*_, **__):
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(module, "fit_on_val", killed)
        with pytest.raises(MemoryError):
            train(small(), data=toy_data, directory=tmp_path)
    assert checkpoint.load(tmp_path / "checkpoint.pt")["progress"]["epoch"] == small().train.epochs
    train(small(), data=toy_data, directory=tmp_path, resume=True)
    assert same_best(tmp_path, trained)


def test_a_calibration_that_is_there_is_not_fitted_again(finished, toy_data):
    before = (finished / "best.pt").read_bytes()
    train(small(), data=toy_data, directory=finished, resume=True)
    assert (finished / "best.pt").read_bytes() == before


def test_a_lost_best_is_written_again_with_its_calibration(finished, trained, toy_data):
    (finished / "best.pt").unlink()
    train(small(), data=toy_data, directory=finished, resume=True)
    assert same_best(finished, trained)


def test_a_best_that_is_damaged_meanwhile_is_restored_by_a_resumed_training(trained, toy_data, tmp_path):
    def damage(report):
        if report.epoch == 2:  # the best epoch, whose checkpoint becomes the previous one
            content = bytearray((tmp_path / "best.pt").read_bytes())
            content[len(content) // 2] ^= 4
            (tmp_path / "best.pt").write_bytes(content)

    with pytest.raises(FailedError, match=r"best.pt: damaged while the training ran; continue with --resume"):
        train(small(), data=toy_data, directory=tmp_path, on_epoch=damage)
    train(small(), data=toy_data, directory=tmp_path, resume=True)
    assert same_best(tmp_path, trained)


def test_the_weights_of_a_trainer_stay_its_own(finished, toy_data):
    trainer = Trainer(small(), data=toy_data)
    trainer.progress.epoch = small().train.epochs
    before = {name: value.clone() for name, value in trainer.matcher.state_dict().items()}
    content = best(finished)
    fitted = content.pop("calibration")
    checkpoint.save(finished / "best.pt", content)
    module.calibrate(trainer, finished)
    assert all(torch.equal(value, before[name]) for name, value in trainer.matcher.state_dict().items())
    assert trainer.matcher.training and best(finished)["calibration"] == fitted


def test_a_frozen_backbone_that_is_not_in_best_is_the_one_that_is_read(toy_data, tmp_path):
    images = {"data__mode": "images", "data__pairs_per_step": 2, "data__eval_pairs": 3, "optim__backbone_lr_scale": 0}
    config = small(**images, train__epochs=1, train__steps_per_epoch=1, optim__milestones=[])
    train(config, data=toy_data, directory=tmp_path)
    content = best(tmp_path)
    assert content["calibration"]["pairs"]["inter"] == 6
    assert not [name for name in content["model"] if name.startswith("backbone.")]


def test_no_calibration_where_val_was_trained_on(toy_data, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    config = small(data__train_split="train+val", train__epochs=1, optim__milestones=[])
    train(config, data=toy_data, directory=tmp_path)
    assert "calibration" not in best(tmp_path)
    lines = [r.getMessage() for r in caplog.records if "confidences" in r.getMessage()]
    assert len(lines) == 1 and lines[0].endswith("no confidences are fitted, for val was trained on (data.train_split)")
