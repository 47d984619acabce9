"""What counts as out of memory, and what half of it is."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from nmt.config import Config, with_overrides
from nmt.errors import UserError
from nmt.training.loop import train
from nmt.training.out_of_memory import halved, is_out_of_memory, pairs_at_once, twice_within_memory
from nmt.training.trainer import Trainer
from tests.nmt_tests.toy_training import SAME, assert_same_training, small


def test_a_failed_allocation_is_told_from_other_errors():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**58, dtype=torch.uint8)
    assert is_out_of_memory(caught.value) and is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


@pytest.mark.parametrize(
    ("pairs", "micro_batch", "workers", "at_once", "then"),
    [(8, 0, 1, 8, 4), (8, 0, 2, 4, 2), (5, 0, 1, 5, 3), (8, 3, 2, 3, 2), (8, 6, 2, 4, 2), (4, 0, 4, 1, None)],
)
def test_half_is_of_what_the_fullest_worker_takes_at_once(pairs, micro_batch, workers, at_once, then):
    changes = {"data.pairs_per_step": pairs, "train.micro_batch": micro_batch}
    config = with_overrides(Config(), changes, source="test")
    assert pairs_at_once(config, workers=workers) == at_once
    smaller = halved(config, workers=workers)
    assert (smaller and smaller.train.micro_batch) == then


def out_of_memory_above(monkeypatch: pytest.MonkeyPatch, pairs: int) -> list[int]:
    """From the eighth step on, more pairs at once fail, as on a GPU that is full; returns the sizes that failed."""
    steps, failed = 0, []
    original = Trainer._backward

    def limited(self, part):
        nonlocal steps
        steps += 1
        if steps > 8 and part.num_pairs > pairs:
            failed.append(part.num_pairs)
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(self, part)

    monkeypatch.setattr(Trainer, "_backward", limited)
    return failed


def train_within_memory(config: Config, data: Path, directory: Path) -> None:
    twice_within_memory(lambda given, again: train(given, data=data, directory=directory, resume=again), config)


def test_training_out_of_memory_goes_on_with_half_the_pairs_at_once(alone, toy_data, tmp_path, monkeypatch):
    failed = out_of_memory_above(monkeypatch, 3)
    train_within_memory(small(**SAME), toy_data, tmp_path)
    assert failed == [5]
    assert_same_training(alone, tmp_path)


def test_training_that_does_not_fit_by_half_either_says_what_to_set(toy_data, tmp_path, monkeypatch):
    failed = out_of_memory_above(monkeypatch, 1)
    with pytest.raises(
        UserError, match=r"again, with 3 pairs per forward pass: set train.micro_batch to 1 or less"
    ) as caught:
        train_within_memory(small(**SAME), toy_data, tmp_path)
    assert failed == [5, 3] and "\n" not in str(caught.value)
    # and with that it goes on from where it was
    train(small(**SAME, train__micro_batch=1), data=toy_data, directory=tmp_path, resume=True)
