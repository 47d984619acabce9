"""Batches: which rows are real, and copies to another device that lose nothing."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data._utils.pin_memory import pin_memory

from nmt.batch import PairBatch, Side
from tests.nmt_tests.model.made_pairs import made_batch, made_view


@given(counts=st.lists(st.integers(0, 9), min_size=1, max_size=5), extra=st.integers(0, 3))
def test_the_mask_counts_the_real_keypoints_of_each_pair_and_they_lead(counts: list[int], extra: int) -> None:
    width = max(counts) + extra
    no_edges = torch.empty(2, 0, dtype=torch.int64), torch.empty(0, 2)
    side = Side(torch.zeros(len(counts), width, 2), torch.tensor(counts), *no_edges)
    mask_BN = side.mask_BN
    assert mask_BN.dtype == torch.bool and mask_BN.shape == (len(counts), width)
    assert mask_BN.sum(1).tolist() == counts
    assert torch.equal(mask_BN, mask_BN.sort(dim=1, descending=True, stable=True).values)


def test_a_batch_on_another_device_has_every_tensor_there_and_nothing_else() -> None:
    batch = made_batch([4, 2], 5)
    moved = batch.to(torch.device("meta"))
    for one, other in ((batch.source, moved.source), (batch.target, moved.target), (batch, moved)):
        for field in dataclasses.fields(one):
            before, after = getattr(one, field.name), getattr(other, field.name)
            if isinstance(before, torch.Tensor):
                assert after.device.type == "meta" and (after.shape, after.dtype) == (before.shape, before.dtype)
            elif before is None:
                assert after is None
    assert moved.num_pairs == batch.num_pairs == 2


def test_a_batch_on_its_own_device_is_not_copied() -> None:
    batch = made_batch([3], 3)
    same = batch.to(torch.device("cpu"))
    assert same.match_BN.data_ptr() == batch.match_BN.data_ptr()
    assert same.source.nodes_BNC.data_ptr() == batch.source.nodes_BNC.data_ptr()


def test_the_data_loader_pins_a_batch_through_its_own_method(monkeypatch: pytest.MonkeyPatch) -> None:
    pinned: list[torch.Tensor] = []

    def pin(tensor: torch.Tensor) -> torch.Tensor:
        pinned.append(tensor)
        return tensor.clone()

    monkeypatch.setattr(torch.Tensor, "pin_memory", pin)  # page-locked memory needs a GPU
    batch = made_batch([4, 2], 5)
    copy = pin_memory(batch)
    assert isinstance(copy, PairBatch)
    side = [f.name for f in dataclasses.fields(Side) if getattr(batch.source, f.name) is not None]
    assert len(pinned) == 2 * len(side) + 2 and copy.source.image_B3HW is None
    for name in side:
        assert torch.equal(getattr(copy.source, name), getattr(batch.source, name))


def test_sides_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        made_view([2], 2, 0).num_B = torch.tensor([3])  # type: ignore[misc]
