"""Validation at the end of an epoch."""

from __future__ import annotations

import torch

from nmt.config import DecodeConfig
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


def test_the_ranks_share_the_validation_pairs_among_them(toy_data, monkeypatch):
    trainer = Trainer(small(), data=toy_data)
    whole = sum(batch.num_pairs for batch in val_batches(trainer))
    monkeypatch.setattr("nmt.distributed.world_size", lambda: 2)
    parts = []
    for rank in range(2):
        monkeypatch.setattr("nmt.distributed.rank", lambda rank=rank: rank)
        parts.append(sum(batch.num_pairs for batch in val_batches(trainer)))
    assert sum(parts) == whole > 0 and abs(parts[0] - parts[1]) <= len(trainer.store.info.categories)
