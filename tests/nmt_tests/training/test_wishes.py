"""At which steps the ranks ask each other."""

from __future__ import annotations

import itertools
import json
import time
from pathlib import Path

import torch

from nmt.training.wishes import ASK_STEPS, Wishes
from tests.nmt_tests.processes import run_together

LAST = 28
WISH = 15
"""step from which rank 1 wants to stop"""


def _rank(rank: int, directory: Path) -> None:
    """Writes the steps that asked, and what was agreed there, for fast steps and for some that are slow on a rank."""
    torch.distributed.init_process_group("gloo", f"file://{directory}/rendezvous", rank=rank, world_size=2)
    found = {}
    for name, seconds in (("fast", 0.0), ("slow", 0.3)):
        wishes, found[name] = Wishes(last=LAST), []
        for step in range(1, LAST + 1):
            if seconds and rank == 1 and step <= 6:
                time.sleep(seconds)
            agreed = wishes.agreed(step, lambda step=step: (2 * (rank == 1 and step >= WISH), 0))
            if agreed is not None:
                found[name].append((step, agreed))
    (directory / f"{rank}.json").write_text(json.dumps(found))
    torch.distributed.destroy_process_group()


def test_two_workers_of_which_one_is_asked_agree_within_ten_steps(tmp_path: Path) -> None:
    run_together(_rank, tmp_path, count=2)
    one, other = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2))
    assert one == other
    for asked in one.values():
        steps = [step for step, _ in asked]
        assert steps[0] == 1 and steps[-1] == LAST
        assert all(after - before <= ASK_STEPS for before, after in itertools.pairwise(steps))
        assert [agreed for _, agreed in asked] == [[2 * (step >= WISH), 0] for step in steps]
    # Three steps of 0.3 s are a second: a rank that is slow makes both ask more often.
    assert [step for step, _ in one["slow"]][:2] == [1, 2] and [step for step, _ in one["slow"]][2] <= 5


def test_a_single_worker_is_asked_at_every_step() -> None:
    wishes = Wishes(last=100)
    assert [wishes.agreed(step, lambda step=step: (step, 0)) for step in range(1, 5)] == [(k, 0) for k in range(1, 5)]
