"""The time of kernels on a named card."""

from __future__ import annotations

import pytest
import torch

from nmt.errors import UserError
from nmt.training.cards import CARDS, LAUNCH_SECONDS, find_card, gpu_seconds, host_seconds, step_seconds
from nmt.training.step_trace import Kernel

H100 = CARDS["h100"]


def kernel(*, flops: float = 0, moved: float = 0, launches: int = 1, dtype: torch.dtype = torch.bfloat16) -> Kernel:
    return Kernel("x", "x", launches, int(flops), int(moved), dtype)


def test_a_kernel_takes_the_longer_of_moving_and_computing():
    assert gpu_seconds([kernel(moved=0.8 * 3.35e12)], H100) == pytest.approx(1.0)
    assert gpu_seconds([kernel(flops=0.5 * 989e12, moved=1e9)], H100) == pytest.approx(1.0)
    assert gpu_seconds([kernel(flops=0.5 * 67e12, dtype=torch.float32)], H100) == pytest.approx(1.0)
    assert gpu_seconds([kernel(flops=0.5 * 494e12, dtype=torch.float32)], H100, tf32=True) == pytest.approx(1.0)


def test_many_small_kernels_are_bound_by_the_cpu():
    small = [kernel()] * 1000
    assert step_seconds(small, H100) == host_seconds(small) == pytest.approx(1000 * LAUNCH_SECONDS)
    assert 0 < gpu_seconds(small, H100) < host_seconds(small)


def test_every_card_has_all_its_figures_in_the_same_units():
    for card in CARDS.values():
        assert 2e11 < card.bandwidth < 1e13 and 1e10 < card.usable < card.memory < 3e11
        assert card.bf16 > card.tf32 >= card.fp32 > 1e13


def test_an_unknown_card_is_named_with_the_nearest():
    assert find_card("H200") is CARDS["h200"]
    with pytest.raises(UserError, match=r"--card h20: not a known card; did you mean 'h200'\?"):
        find_card("h20")
