"""The state of a training on disk."""

from __future__ import annotations

import json

import pytest
import torch

from nmt import checkpoint
from nmt.data.store.objects import ObjectStore
from nmt.errors import UserError
from nmt.training import state
from nmt.training.loop import train
from nmt.training.trainer import Trainer
from tests.nmt_tests.toy_training import small, weights


def test_a_checkpoint_of_another_configuration_is_refused(trained, toy_data):
    with pytest.raises(UserError, match="another configuration: optim.lr is 0.005 in it and 0.001 now; choose"):
        train(small(optim__lr=1e-3), data=toy_data, directory=trained, resume=True)


def test_a_training_goes_on_with_its_own_data_set_alone(trained, toy_data, tmp_path):
    identity = ObjectStore.open(toy_data).info.identity
    for name in ("checkpoint.pt", "best.pt"):
        assert checkpoint.load(trained / name)["data_set"] == identity
    assert json.loads((trained / "data_set.json").read_text())["identity"] == identity
    record = (trained / "data_set.json").read_text()
    (trained / "data_set.json").write_text(record.replace(identity, "another"))
    with pytest.raises(UserError, match=f"trained on the data set another .* is the data set {identity}"):
        train(small(), data=toy_data, directory=trained, resume=True)
    (trained / "data_set.json").unlink()  # as older trainings
    content = checkpoint.load(trained / "checkpoint.pt")
    checkpoint.save(trained / "checkpoint.pt", content | {"data_set": "another"})
    with pytest.raises(UserError, match=r"checkpoint.pt: trained on the data set another, but .*give the first one"):
        train(small(), data=toy_data, directory=trained, resume=True)
    del content["data_set"]
    checkpoint.save(trained / "checkpoint.pt", content)
    train(small(), data=toy_data, directory=trained, resume=True)
    assert (trained / "data_set.json").read_text() == record


def test_a_frozen_backbone_takes_no_gradient_and_is_not_in_the_checkpoint(toy_data, tmp_path):
    config = small(data__mode="images", data__pairs_per_step=2, optim__backbone_lr_scale=0)
    trainer = Trainer(config, data=toy_data)
    assert len(trainer.optimizer.param_groups) == 1
    assert not any(p.requires_grad for p in trainer.matcher.backbone.parameters())
    state.save(trainer, tmp_path / "checkpoint.pt")
    assert not [name for name in weights(tmp_path) if name.startswith("backbone.")]
    state.restore(Trainer(config, data=toy_data), tmp_path / "checkpoint.pt")


def test_a_restored_training_has_the_weights_optimizer_and_progress_of_the_saved_one(trained, toy_data, tmp_path):
    saved = Trainer(small(), data=toy_data)
    state.restore(saved, trained / "checkpoint.pt")
    state.save(saved, tmp_path / "again.pt")
    one, other = (checkpoint.load(path) for path in (trained / "checkpoint.pt", tmp_path / "again.pt"))
    assert saved.progress.history and one["progress"] == other["progress"]
    assert all(torch.equal(value, other["model"][name]) for name, value in one["model"].items())
    moments = [content["optimizer"]["state"] for content in (one, other)]
    assert moments[0].keys() == moments[1].keys() != set()
    assert all(torch.equal(m["exp_avg_sq"], moments[1][k]["exp_avg_sq"]) for k, m in moments[0].items())


def test_the_best_weights_carry_the_best_decoding_and_no_optimizer(toy_data, tmp_path):
    trainer = Trainer(small(), data=toy_data)
    best = {"decode/sinkhorn_iterations": 3, "decode/epsilon": 0.2, "decode/assignment": "hungarian"}
    state.save_best(trainer, tmp_path / "best.pt", {"epoch": 2, **best})
    found = checkpoint.load(tmp_path / "best.pt")
    assert found["config"]["decode"] == {"sinkhorn_iterations": 3, "epsilon": 0.2, "assignment": "hungarian"}
    assert found["epoch"] == 2 and "optimizer" not in found


def test_beginning_to_resume_writes_the_metrics_that_a_crash_left_unwritten(trained, toy_data):
    before = (trained / "metrics.jsonl").read_text()
    (trained / "metrics.jsonl").unlink()
    (trained / "config.json").unlink()
    trainer = Trainer(small(), data=toy_data)
    state.begin(trainer, trained, resume=True)
    assert (trained / "metrics.jsonl").read_text() == before
    assert json.loads((trained / "config.json").read_text())["optim"]["lr"] == trainer.config.optim.lr
    fresh = Trainer(small(), data=toy_data)
    state.begin(fresh, trained, resume=False)
    assert fresh.progress.epoch == 0 and not fresh.progress.history
