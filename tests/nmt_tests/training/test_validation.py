"""Validation at the end of an epoch."""

from __future__ import annotations

import time

import pytest
import torch

from nmt.config import DecodeConfig
from nmt.data.stream.pairs import eval_pairs
from nmt.decoding import sweep_grid
from nmt.metrics import Counts
from nmt.training.trainer import Trainer
from nmt.training.validation import val_batches, val_metrics, validate
from tests.nmt_tests.toy_training import small


def test_validation_metrics_name_the_best_setting_of_the_grid(toy_data):
    trainer = Trainer(small(), data=toy_data)
    fixed, other = trainer.config.decode, DecodeConfig(epsilon=0.5)
    half, most = (Counts(torch.tensor([c, c]), torch.tensor([10.0, 10.0])) for c in (5.0, 7.5))
    found = val_metrics(trainer, {fixed: half, other: most})
    assert found["val/accuracy"] == found["val/accuracy/chair"] == 0.75 and found["val/accuracy_fixed_decode"] == 0.5
    assert found["decode/epsilon"] == 0.5 and found["decode/assignment"] == "argmax"


def test_a_grid_can_only_improve_the_accuracy_and_leaves_that_of_the_configured_decoding(toy_data):
    trainer = Trainer(small(), data=toy_data)
    grid = [DecodeConfig(sinkhorn_iterations=0), DecodeConfig(assignment="hungarian")]
    alone, swept = validate(trainer, ()), validate(trainer, grid)
    assert alone["val/accuracy"] == alone["val/accuracy_fixed_decode"] == swept["val/accuracy_fixed_decode"]
    assert swept["val/accuracy"] >= alone["val/accuracy"] and swept["inference_seconds"] > 0
    assert not trainer.model.training


@pytest.fixture
def on_images(toy_data):
    """A training in images mode."""
    return Trainer(small(data__mode="images", train__precision="fp32", model__decoder_layers=1), data=toy_data)


def test_on_images_the_ranks_read_the_objects_of_their_own_pairs_and_count_as_one(on_images, monkeypatch):
    trainer, read = on_images, []
    trainer.matcher.backbone.register_forward_hook(lambda net, given, maps: read.append(len(given[0])))
    alone = validate(trainer, ())
    pairs = eval_pairs(trainer.store, trainer.config.data, split="val")
    assert sum(read) == objects_of(pairs) < len(pairs)
    monkeypatch.setattr("nmt.distributed.world_size", lambda: 2)
    monkeypatch.setattr("nmt.distributed.sum_over_ranks", lambda values: values)  # each rank by itself
    counts = []

    def kept(*given, **more):
        counts.append(sweep_grid(*given, **more))
        return counts[-1]

    monkeypatch.setattr("nmt.training.validation.sweep_grid", kept)
    for rank in range(2):
        read.clear()
        monkeypatch.setattr("nmt.distributed.rank", lambda rank=rank: rank)
        validate(trainer, ())
        assert sum(read) == objects_of(pairs[rank::2])
    decode = trainer.config.decode
    correct_A, total_A = (sum(getattr(c[decode], name) for c in counts) for name in ("correct_A", "total_A"))
    assert Counts(correct_A, total_A).accuracy() == alone["val/accuracy_fixed_decode"]


def test_on_images_no_more_pass_the_backbone_than_in_training(toy_data):
    """What fits in memory with `train.micro_batch` is validated in parts of that size, with the same accuracy."""
    found, largest = [], []
    for micro_batch in (0, 1):
        changes = {"data__mode": "images", "train__precision": "fp32", "model__decoder_layers": 1}
        trainer, read = Trainer(small(**changes, train__micro_batch=micro_batch), data=toy_data), []
        trainer.matcher.backbone.register_forward_hook(lambda net, given, maps, read=read: read.append(len(given[0])))
        found.append(validate(trainer, ())["val/accuracy"])
        largest.append(max(read))
    assert largest[1] == 2 < largest[0] and found[0] == found[1]


def objects_of(pairs) -> int:
    return len({row for pair in pairs for row in (pair.row0, pair.row1)})


def test_the_time_of_a_pair_on_images_is_that_of_two_objects_and_the_head(on_images):
    trainer, features = on_images, on_images.matcher.features
    quick = validate(trainer, ())["inference_seconds"]

    def slow(side):
        if side.image_B3HW is not None:
            time.sleep(0.1 * len(side.num_B))
        return features(side)

    trainer.matcher.features = slow
    assert validate(trainer, ())["inference_seconds"] > 0.2
    assert quick > 0


def test_the_ranks_share_the_validation_pairs_among_them(toy_data, monkeypatch):
    trainer = Trainer(small(), data=toy_data)
    whole = sum(batch.num_pairs for batch in val_batches(trainer))
    monkeypatch.setattr("nmt.distributed.world_size", lambda: 2)
    parts = []
    for rank in range(2):
        monkeypatch.setattr("nmt.distributed.rank", lambda rank=rank: rank)
        parts.append(sum(batch.num_pairs for batch in val_batches(trainer)))
    assert sum(parts) == whole > 0 and abs(parts[0] - parts[1]) <= len(trainer.store.info.categories)


def test_f1_is_measured_where_it_is_asked_for_and_by_the_first_rank_alone(toy_data, monkeypatch):
    trainer = Trainer(small(), data=toy_data, val_f1=True)
    plain, found = validate(Trainer(small(), data=toy_data), ()), validate(trainer, ())
    assert "val/f1" not in plain and 0 < found["val/f1"] < 1 and not trainer.model.training
    assert found["val/accuracy"] == plain["val/accuracy"]
    monkeypatch.setattr("nmt.distributed.rank", lambda: 1)
    monkeypatch.setattr("nmt.distributed.world_size", lambda: 2)
    monkeypatch.setattr("nmt.distributed.sum_over_ranks", lambda values: values)  # each rank by itself
    assert validate(trainer, ())["val/f1"] == 0.0  # its share of the sum
