"""The size and the estimated time of a training, which measuring does not change."""

from __future__ import annotations

import dataclasses
import re
import shutil

import pytest
import torch

from nmt.config import DecodeConfig
from nmt.errors import UserError
from nmt.training.loop import train
from nmt.training.plan import Pace, TrainingPlan, measure, plan_training
from nmt.training.sizes import Sizes
from tests.nmt_tests.toy_training import history, small, weights


def test_a_plan_names_epochs_steps_pairs_objects_and_the_measured_time(toy_data, toy_store, tmp_path):
    plan = plan_training(small(), data=toy_data, directory=tmp_path, resume=False)
    counts = toy_store.info.counts
    train_objects, val_objects = (sum(counts[split].values()) for split in ("train", "val"))
    first, second = str(plan).splitlines()
    assert first == (
        f"training: 3 epochs of 6 steps, 4 pairs each; {train_objects} train and {val_objects} val objects; "
        "up to 3.2 MB of files"
    )
    assert re.fullmatch(
        r"estimated time: [\d.]+ s \(measured: [\d.]+ s a step, [\d.]+ s a validation; saving comes on top\)", second
    )
    assert plan.seconds == pytest.approx(3 * plan.pace.epoch) and 0 < plan.seconds < 60
    assert not list(tmp_path.iterdir()), "measuring leaves no file"


def test_measuring_changes_neither_the_training_nor_the_random_state(toy_data, trained, tmp_path):
    torch.manual_seed(7)
    before = torch.get_rng_state()
    measure(small(), data=toy_data, decode_grid=[DecodeConfig(epsilon=0.5)], device=torch.device("cpu"))
    assert torch.equal(torch.get_rng_state(), before)
    plan_training(small(), data=toy_data, directory=tmp_path, resume=False)
    train(small(), data=toy_data, directory=tmp_path)
    assert history(tmp_path) == history(trained)
    for name, value in weights(trained).items():
        assert torch.equal(value, weights(tmp_path)[name]), name


def test_a_training_in_images_is_measured_and_unchanged(toy_data, tmp_path):
    config = small(data__mode="images", train__steps_per_epoch=2, train__epochs=1, data__eval_pairs=2)
    train(config, data=toy_data, directory=tmp_path / "plain")
    pace = measure(config, data=toy_data, decode_grid=(), device=torch.device("cpu"))
    assert pace.epoch > 0
    train(config, data=toy_data, directory=tmp_path / "measured")
    assert history(tmp_path / "measured") == history(tmp_path / "plain")


def test_a_resumed_training_is_estimated_from_its_own_epochs(toy_data, trained, tmp_path, monkeypatch):
    monkeypatch.setattr("nmt.training.plan.measure", None)  # calling it would fail
    train(small(), data=toy_data, directory=tmp_path, until=1)
    plan = plan_training(small(), data=toy_data, directory=tmp_path, resume=True)
    assert plan.completed == 1 and plan.epochs == 2
    assert str(plan).startswith("training: 2 of 3 epochs left, of 6 steps, 4 pairs each; ")
    assert re.search(r"estimated time: [\d.]+ s \([\d.]+ s an epoch so far\)$", str(plan))
    done = plan_training(small(), data=toy_data, directory=trained, resume=True)
    assert str(done) == "training: all 3 epochs are done" and done.seconds == 0


@pytest.mark.parametrize("changes", [{"timed": False}, {"train__compile": True}, {"train__epochs": 1}])
def test_what_cannot_be_measured_has_no_time(toy_data, tmp_path, changes):
    timed = changes.pop("timed", True)
    plan = plan_training(small(**changes), data=toy_data, directory=tmp_path, resume=False, timed=timed)
    assert plan.pace is None and plan.seconds is None and len(str(plan).splitlines()) == 1


def test_an_epoch_of_one_step_is_measured(toy_data, tmp_path):
    plan = plan_training(
        small(train__steps_per_epoch=1, train__epochs=12), data=toy_data, directory=tmp_path, resume=False
    )
    assert plan.pace is not None and " of 1 step, 4 pairs each" in str(plan)


def test_a_mistake_is_reported_as_the_training_would(toy_data, tmp_path):
    with pytest.raises(UserError, match=r"not there; make it with"):
        plan_training(small(model__backbone="vgg16_bn"), data=toy_data, directory=tmp_path, resume=False)


@pytest.mark.parametrize(
    ("mode", "device", "told"), [("images", "cpu", True), ("images", "cuda", False), ("features", "cpu", True)]
)
def test_a_long_training_names_the_keys_that_shorten_it(mode, device, told):
    config = small(data__mode=mode)
    counts = {"train": 8, "val": 4, "test": 4}
    plan = TrainingPlan(
        config=config, completed=0, objects=counts, pace=Pace(40_800.0, "measured"), device=device,
        sizes=Sizes(checkpoint=3, best=1),
    )  # fmt: skip
    assert "estimated time: 34 h (measured)" in str(plan)
    assert "--set train.steps_per_epoch=N (now 6), train.epochs=N (now 3), " in str(plan)
    assert ("or a GPU" in str(plan)) == told
    assert ("data.mode=features" in str(plan)) == ("model.backbone" in str(plan)) == (mode == "images")
    few = dataclasses.replace(plan, objects=counts | {"train": 2})
    assert "which draws each of the 2 train objects 24 times an epoch" in str(few)
    assert "shorter" not in str(dataclasses.replace(plan, pace=Pace(3_000.0, "measured")))


def test_a_training_that_is_done_needs_no_room(toy_data, trained, monkeypatch):
    usage = shutil.disk_usage(trained)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=0))
    assert (
        str(plan_training(small(), data=toy_data, directory=trained, resume=True)) == "training: all 3 epochs are done"
    )
    with pytest.raises(UserError, match="needs .* for its checkpoints"):
        plan_training(small(), data=toy_data, directory=trained, resume=False)


def test_one_to_one_decoding_of_pairs_with_unequal_sides_is_warned_of(toy_data, tmp_path):
    def text(**changes):
        return str(plan_training(small(**changes), data=toy_data, directory=tmp_path, resume=False, timed=False))

    assert "hungarian loses accuracy" in text(data__pairs="union", decode__assignment="hungarian")
    assert "hungarian" not in text(decode__assignment="hungarian") + text(data__pairs="union")
