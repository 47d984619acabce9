"""The state of a training on disk."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import pytest
import torch

from nmt import checkpoint
from nmt.data.store.objects import ObjectStore
from nmt.errors import FailedError, TemporaryError, UserError
from nmt.training import state
from nmt.training.loop import train
from nmt.training.trainer import Trainer
from tests.nmt_tests.processes import run_together
from tests.nmt_tests.toy_training import history, small, weights


def test_a_checkpoint_of_another_configuration_is_refused(trained, toy_data):
    with pytest.raises(UserError, match="another configuration: optim.lr is 0.005 in it and 0.001 now; choose"):
        train(small(optim__lr=1e-3), data=toy_data, directory=trained, resume=True)


@pytest.mark.parametrize(
    ("key", "before", "refused"),
    [
        ("loss.reduction", "pairs", 'loss.reduction is "pairs" in it and "keypoints" now'),
        ("model.drop_path", 0.0, "model.drop_path is 0.0 in it and 0.2 now"),
    ],
)
def test_a_checkpoint_from_before_a_key_is_not_continued_otherwise(trained, toy_data, tmp_path, key, before, refused):
    content, (branch, name) = checkpoint.load(trained / "checkpoint.pt"), key.split(".")
    del content["config"][branch][name]
    checkpoint.save(tmp_path / "checkpoint.pt", content)
    with pytest.raises(UserError, match=refused):
        state.restore(Trainer(small(), data=toy_data), tmp_path / "checkpoint.pt")
    state.restore(Trainer(small(**{key: before}), data=toy_data), tmp_path / "checkpoint.pt")


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


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_a_snapshot_is_written_as_it_was_whatever_the_training_does_meanwhile(toy_data, tmp_path, ema):
    trainer = Trainer(small(train__ema=ema), data=toy_data)
    batches = trainer.batches()
    trainer.train_step(next(batches))  # the optimizer has a state
    state.save(trainer, tmp_path / "at_once.pt")
    content = state.snapshot(trainer)
    trainer.train_step(next(batches))
    trainer.progress.history.append({"epoch": 1})
    state.write(content, tmp_path / "later.pt")
    state.save(trainer, tmp_path / "after.pt")
    at_once, later, after = ((tmp_path / f"{name}.pt").read_bytes() for name in ("at_once", "later", "after"))
    assert later == at_once != after


def test_the_best_weights_carry_the_best_decoding_and_no_optimizer(toy_data, tmp_path):
    trainer = Trainer(small(), data=toy_data)
    best = {"decode/sinkhorn_iterations": 3, "decode/epsilon": 0.2, "decode/assignment": "hungarian"}
    state.write_best(tmp_path / "best.pt", state.snapshot(trainer), {"epoch": 2, **best})
    found = checkpoint.load(tmp_path / "best.pt")
    assert found["config"]["decode"] == {
        "sinkhorn_iterations": 3, "epsilon": 0.2, "assignment": "hungarian", "unmatched": "off",
    }  # fmt: skip
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


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


DAMAGES = {
    "flipped": flip,
    "cut": lambda path: path.write_bytes(path.read_bytes()[:1000]),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "empty": lambda path: path.write_bytes(b""),
    "lost": Path.unlink,
}


@pytest.fixture(scope="module")
def two_epochs(toy_data, tmp_path_factory) -> Path:
    """A training that has ended its second of three epochs, which is the best."""
    directory = tmp_path_factory.mktemp("two")
    train(small(), data=toy_data, directory=directory, until=2)
    assert checkpoint.load(directory / "best.pt")["epoch"] == 2
    return directory


@pytest.fixture
def folder(two_epochs: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(two_epochs, tmp_path / "run"))


def resumed(folder: Path, data: Path, caplog: pytest.LogCaptureFixture) -> tuple[int, list[str]]:
    """Begin again; return the epoch and the lines."""
    trainer = Trainer(small(), data=data)
    with caplog.at_level(logging.INFO):
        state.begin(trainer, folder, resume=True)
    assert [m["epoch"] for m in history(folder)] == list(range(1, trainer.progress.epoch + 1))
    return trainer.progress.epoch, caplog.messages


@pytest.mark.parametrize("damage", list(DAMAGES))
def test_a_damaged_checkpoint_is_replaced_by_the_previous_one(folder, toy_data, caplog, damage):
    DAMAGES[damage](folder / "checkpoint.pt")
    epoch, lines = resumed(folder, toy_data, caplog)
    assert epoch == 1 and checkpoint.load(folder / "checkpoint.pt")["progress"]["epoch"] == 1
    assert not (folder / "checkpoint.previous.pt").exists()
    told = f"{folder}: checkpoint.pt is damaged; resuming from the one before, after epoch 1, step 0"
    assert lines == ([] if damage == "lost" else [told])


@pytest.mark.parametrize("damage", list(DAMAGES))
def test_without_a_whole_checkpoint_the_training_begins_anew(folder, toy_data, caplog, damage):
    for name in ("checkpoint.pt", "checkpoint.previous.pt"):
        DAMAGES[damage](folder / name)
    epoch, (line,) = resumed(folder, toy_data, caplog)
    reason = (
        "no checkpoint.pt there" if damage == "lost" else "checkpoint.pt is damaged, checkpoint.previous.pt is damaged"
    )
    assert epoch == 0 and line == f"{folder}: {reason}; beginning anew"
    assert not list(folder.glob("checkpoint*"))


def test_after_any_damage_the_training_ends_as_if_there_had_been_none(trained, two_epochs, toy_data, tmp_path):
    for number, names in enumerate((["checkpoint.pt"], ["checkpoint.pt", "checkpoint.previous.pt"], ["best.pt"])):
        folder = Path(shutil.copytree(two_epochs, tmp_path / str(number)))
        for name in names:
            flip(folder / name)
        train(small(), data=toy_data, directory=folder, resume=True)
        assert history(folder) == history(trained)
        assert all(torch.equal(value, weights(folder)[name]) for name, value in weights(trained).items())
        best = [checkpoint.load(place / "best.pt") for place in (folder, trained)]
        assert best[0]["epoch"] == best[1]["epoch"]
        assert all(torch.equal(value, best[1]["model"][name]) for name, value in best[0]["model"].items())


@pytest.mark.parametrize("damage", list(DAMAGES))
def test_best_weights_that_are_lost_are_written_again_from_the_checkpoint_of_their_epoch(
    folder, toy_data, caplog, damage
):
    before = checkpoint.load(folder / "best.pt")
    DAMAGES[damage](folder / "best.pt")
    epoch, (line,) = resumed(folder, toy_data, caplog)
    reason = "no best.pt there" if damage == "lost" else "best.pt is damaged"
    assert epoch == 2 and line == f"{folder}: {reason}; written again from the checkpoint of that epoch"
    after = checkpoint.load(folder / "best.pt")
    assert {k: v for k, v in before.items() if k != "model"} == {k: v for k, v in after.items() if k != "model"}
    assert all(torch.equal(value, after["model"][name]) for name, value in before["model"].items())


def of_epoch(content: dict, best: int) -> dict:
    """The checkpoint of a training whose best epoch was `best`."""
    for metrics in content["progress"]["history"]:
        metrics["val/accuracy"] = 0.9 if metrics["epoch"] == best else 0.1
    return {key: value for key, value in content.items() if key != "version"}


@pytest.mark.parametrize("previous", [True, False])
def test_best_weights_of_an_earlier_epoch_come_from_the_previous_checkpoint_or_all_begins_anew(
    folder, toy_data, caplog, previous
):
    for name in ("checkpoint.pt", "checkpoint.previous.pt"):
        checkpoint.save(folder / name, of_epoch(checkpoint.load(folder / name), best=1))
    (folder / "best.pt").unlink()
    if not previous:
        flip(folder / "checkpoint.previous.pt")
    epoch, (line,) = resumed(folder, toy_data, caplog)
    if previous:
        assert epoch == 2 and checkpoint.load(folder / "best.pt")["epoch"] == 1
    else:
        assert epoch == 0 and line.endswith("no checkpoint has the weights of epoch 1; beginning anew")


def test_best_weights_that_a_crash_left_ahead_of_the_checkpoint_are_no_damage(folder, toy_data, caplog):
    (folder / "checkpoint.previous.pt").replace(folder / "checkpoint.pt")  # as before the second epoch's was written
    assert resumed(folder, toy_data, caplog) == (1, [])


def test_best_weights_removed_while_it_trains_end_the_training_before_its_last_epoch_is_known(folder, toy_data):
    content = of_epoch(checkpoint.load(folder / "checkpoint.pt"), best=1)
    content["progress"]["best_accuracy"] = 2.0  # no later epoch is better
    checkpoint.save(folder / "checkpoint.pt", content)
    checkpoint.save(folder / "checkpoint.previous.pt", of_epoch(checkpoint.load(folder / "checkpoint.previous.pt"), 1))

    def remove() -> bool:
        (folder / "best.pt").unlink(missing_ok=True)
        return False

    with pytest.raises(FailedError, match="best.pt: removed while the training ran; continue with --resume"):
        train(small(), data=toy_data, directory=folder, resume=True, interrupted=remove)
    assert len(history(folder)) == 2


@pytest.mark.parametrize("damaged", [[], ["checkpoint.pt"], ["best.pt"]])
def test_a_checkpoint_of_another_configuration_stays_whatever_else_is_damaged(folder, toy_data, damaged):
    for name in damaged:
        flip(folder / name)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(UserError, match="another configuration: optim.lr is 0.005 in it and 0.001 now"):
        train(small(optim__lr=1e-3), data=toy_data, directory=folder, resume=True)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def _rank(rank: int, folder: Path, data: Path) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{folder}/rendezvous", rank=rank, world_size=2)
    trainer = Trainer(small(), data=data)
    state.begin(trainer, folder, resume=True)
    total = sum(float(value.double().sum()) for value in trainer.matcher.state_dict().values())
    (folder / f"rank{rank}").write_text(json.dumps([trainer.progress.epoch, total]))
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize(("names", "epoch"), [(["checkpoint.pt"], 1), (["checkpoint.pt", "checkpoint.previous.pt"], 0)])
def test_all_ranks_restore_the_same_of_a_damaged_folder(folder, toy_data, names, epoch):
    for name in names:
        flip(folder / name)
    run_together(_rank, folder, toy_data, count=2)
    first, second = (json.loads((folder / f"rank{rank}").read_text()) for rank in range(2))
    assert first == second and first[0] == epoch


@pytest.fixture
def other(toy_data, tmp_path) -> Path:
    """A training with another seed, as far as that in `folder`."""
    train(small(train__seed=9), data=toy_data, directory=tmp_path / "other", until=2)
    return tmp_path / "other"


def test_a_checkpoint_of_another_training_in_the_folder_of_this_one_is_damage(folder, other, toy_data, caplog):
    shutil.copy(other / "checkpoint.pt", folder / "checkpoint.pt")
    epoch, (line,) = resumed(folder, toy_data, caplog)
    told = "checkpoint.pt is of another training; resuming from the one before, after epoch 1, step 0"
    assert epoch == 1 and line == f"{folder}: {told}"


def test_best_weights_of_another_training_are_written_again(folder, other, toy_data, caplog):
    before, wrong = (checkpoint.load(place / "best.pt") for place in (folder, other))
    del wrong["version"]
    checkpoint.save(folder / "best.pt", wrong | {"epoch": 2})
    epoch, (line,) = resumed(folder, toy_data, caplog)
    told = "best.pt is of another training; written again from the checkpoint of that epoch"
    assert epoch == 2 and line == f"{folder}: {told}"
    after = checkpoint.load(folder / "best.pt")
    assert all(torch.equal(value, after["model"][name]) for name, value in before["model"].items())


def test_a_folder_in_the_place_of_a_checkpoint_is_one_line(folder, toy_data):
    (folder / "checkpoint.pt").unlink()
    (folder / "checkpoint.pt").mkdir()
    with pytest.raises(TemporaryError, match="checkpoint.pt: a folder, where a file belongs; remove it"):
        state.begin(Trainer(small(), data=toy_data), folder, resume=True)
    assert (folder / "checkpoint.previous.pt").is_file()
