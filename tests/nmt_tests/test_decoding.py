"""Similarities kept for decoding, and the sweep over decode settings."""

import dataclasses
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from nmt import decoding
from nmt.batch import PairBatch
from nmt.config import Config, DecodeConfig, with_overrides
from nmt.decoding import Similarities, best_decoding, decodings_of, similarities, sweep, sweep_grid, timed
from nmt.metrics import Counts
from nmt.sinkhorn import decode, sinkhorn
from tests.nmt_tests.model.made_pairs import made_batch


def test_sweep_reads_every_setting_of_a_grid_as_decoding_it_alone_does() -> None:
    generator = torch.Generator().manual_seed(0)
    num0_P, num1_P = torch.tensor([5, 3, 4, 6]), torch.tensor([6, 4, 4, 6])
    stored = Similarities(
        similarity_PNM=torch.rand(4, 6, 6, generator=generator) * 2 - 1,
        mask0_PN=torch.arange(6) < num0_P[:, None],
        mask1_PM=torch.arange(6) < num1_P[:, None],
        match_PN=torch.where(torch.arange(6) < num0_P[:, None], torch.arange(6) % num1_P[:, None], -1),
        category_P=torch.tensor([0, 0, 1, 1]),
    )
    both = ("argmax", "hungarian")
    grid = [
        DecodeConfig(sinkhorn_iterations=i, epsilon=e, assignment=a)
        for a in both
        for i in (27, 0, 3)
        for e in (0.1, 0.02)
    ]
    swept = sweep(stored, grid, num_categories=2)
    assert list(swept) == grid and len({tuple(c.correct_A.tolist()) for c in swept.values()}) > 1
    both_masks = (stored.mask0_PN, stored.mask1_PM)
    for setting, counts in swept.items():
        alone_PN = decode(
            stored.similarity_PNM, *both_masks, epsilon=setting.epsilon, iterations=setting.sinkhorn_iterations,
            assignment=setting.assignment,
        )  # fmt: skip
        right_PN = (alone_PN == stored.match_PN) & stored.mask0_PN
        assert counts.correct_A.tolist() == [float(right_PN[:2].sum()), float(right_PN[2:].sum())]
    plain = DecodeConfig(sinkhorn_iterations=0, epsilon=0.1, assignment="hungarian")
    for pair in range(4):
        sim_NM = stored.similarity_PNM[pair, : num0_P[pair], : num1_P[pair]]
        _, columns = linear_sum_assignment(sim_NM.numpy(), maximize=True)
        alone = Similarities(*(getattr(stored, f.name)[pair : pair + 1] for f in dataclasses.fields(stored)))
        right = sweep(alone, [plain], num_categories=2)[plain].correct_A.sum()
        assert right == (torch.from_numpy(columns) == stored.match_PN[pair, : num0_P[pair]]).sum()


@pytest.mark.parametrize("published", [0, 5, 18])
def test_a_grid_counts_what_each_decoding_counts_and_the_published_ones_to_the_last_digit(published: int) -> None:
    batches = stored_batches(1, [3, 40, 2])
    stored = similarities(lambda batch: torch.cos(score(batch)), batches, device=torch.device("cpu"))
    grid = [
        DecodeConfig(sinkhorn_iterations=i, epsilon=e, assignment=a)
        for i in (10, 0, 2)
        for a in ("argmax", "hungarian")
        for e in (0.05, 0.001, 0.3)
    ]
    exact = grid[:published]
    swept = sweep(stored, grid, num_categories=3)
    found = sweep_grid(stored, grid, published=exact, num_categories=3, device=torch.device("cpu"))
    assert list(found) == grid and len({tuple(counts.correct_A.tolist()) for counts in found.values()}) > 3
    for setting in grid:
        assert found[setting].total_A.tolist() == swept[setting].total_A.tolist()
        assert found[setting].correct_A.tolist() == swept[setting].correct_A.tolist()  # this data has no near-ties


def test_pairs_decoded_in_groups_are_decoded_as_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(2)
    num_P = torch.randint(2, 14, (500,), generator=generator)
    mask = torch.arange(13) < num_P[:, None]
    match = torch.where(mask, torch.arange(13), -1)
    similarity = torch.rand(500, 13, 13, generator=generator) + 0.4 * torch.eye(13)
    stored = Similarities(similarity, mask, mask, match, torch.arange(500))  # a category for each pair, to count it
    setting = DecodeConfig()
    monkeypatch.setitem(decoding._AT_ONCE, "cpu", 1000)
    swept = sweep_grid(stored, [setting], published=[], num_categories=500, device=torch.device("cpu"))[setting]
    plan = sinkhorn(similarity, mask, mask, epsilon=setting.epsilon, iterations=setting.sinkhorn_iterations)
    right_P = ((plan.argmax(2) == match) & mask).sum(1)
    assert torch.equal(swept.correct_A, right_P.double()) and right_P.unique().numel() > 3
    assert [len(part.category_P) for part in stored.parts(1000)] == [5] * 100
    for part in (part.trimmed() for part in stored.parts(1000)):
        assert torch.equal(part.match_PN >= 0, part.mask0_PN)
        assert part.mask0_PN.any(0).all() and part.mask1_PM.any(0).all()


def stored_batches(seed: int, sizes: list[int]) -> list[PairBatch]:
    rng = np.random.default_rng(seed)
    return [made_batch(rng.integers(2, 7, size).tolist(), int(rng.integers(7, 10)), seed + k) for k, size in
            enumerate(sizes)]  # fmt: skip


def score(batch: PairBatch) -> torch.Tensor:
    """A similarity that tells pairs and keypoints apart."""
    return batch.source.points_BN2[:, :, None, 0] + 2 * batch.target.points_BN2[:, None, :, 1]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.lists(st.integers(1, 3), min_size=1, max_size=4))
def test_batches_of_any_width_are_stacked_without_changing_a_pair(seed: int, sizes: list[int]) -> None:
    batches = stored_batches(seed, sizes)
    stored = similarities(score, batches, device=torch.device("cpu"))
    row = 0
    for batch in batches:
        for b, num in enumerate(batch.source.num_B.tolist()):
            width = batch.match_BN.shape[1]
            assert torch.equal(stored.similarity_PNM[row, :width, :width], score(batch)[b])
            assert stored.mask0_PN[row].sum() == stored.mask1_PM[row].sum() == num
            assert torch.equal(stored.match_PN[row, :width], batch.match_BN[b])
            assert (stored.match_PN[row, width:] == -1).all() and stored.category_P[row] == batch.category_B[b]
            row += 1
    assert row == len(stored.category_P) == sum(sizes)


def test_no_batches_are_no_pairs_and_count_nothing() -> None:
    stored = similarities(score, [], device=torch.device("cpu"))
    swept = sweep(stored, [DecodeConfig(), DecodeConfig(assignment="hungarian")], num_categories=3)
    assert len(stored.category_P) == 0
    grid = sweep_grid(stored, list(swept), published=list(swept)[:1], num_categories=3, device=torch.device("cpu"))
    for counts in (*swept.values(), *grid.values()):
        assert counts.total_A.tolist() == [0, 0, 0] and counts.accuracy() == 0


def test_the_configured_setting_leads_and_every_setting_is_there_once() -> None:
    grid = [DecodeConfig(epsilon=e) for e in (0.1, 0.035, 0.2, 0.1)]
    found = decodings_of(Config(), grid)
    assert [d.epsilon for d in found] == [0.035, 0.1, 0.2] and found[0] == Config().decode
    assert decodings_of(Config(), []) == [Config().decode]


def test_a_plan_that_was_trained_through_keeps_its_iterations_and_epsilon() -> None:
    changes = {"loss.matching": "sinkhorn", "decode.epsilon": 0.5, "decode.sinkhorn_iterations": 3}
    config = with_overrides(Config(), changes, source="test")
    grid = [DecodeConfig(sinkhorn_iterations=i, assignment=a) for i in (0, 27) for a in ("argmax", "hungarian")]
    assert decodings_of(config, grid) == [config.decode, dataclasses.replace(config.decode, assignment="hungarian")]


def test_the_best_setting_is_the_first_of_equals() -> None:
    def counts(correct: float) -> Counts:
        return Counts(torch.tensor([correct]), torch.tensor([10.0]))

    settings_ = [DecodeConfig(epsilon=e) for e in (0.1, 0.2, 0.3)]
    assert best_decoding(dict(zip(settings_, map(counts, (3, 5, 5)), strict=True))) == settings_[1]


def test_time_is_noted_per_pair_of_each_batch() -> None:
    def slow(batch: PairBatch) -> torch.Tensor:
        time.sleep(0.02)
        return score(batch)

    taken: list[float] = []
    batches = stored_batches(0, [1, 4])
    similarities(timed(slow, taken), batches, device=torch.device("cpu"))
    assert len(taken) == 2 and taken[0] >= 0.02 and 0.005 <= taken[1] < taken[0]
