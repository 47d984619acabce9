"""What counts as out of memory, and what half of it is; the training itself is in test_train.py."""

from __future__ import annotations

import pytest
import torch

from nmt.config import Config, with_overrides
from nmt.training.out_of_memory import halved, is_out_of_memory, pairs_at_once


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
