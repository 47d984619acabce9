import dataclasses

import torch
from scipy.optimize import linear_sum_assignment

from nmt.config import DecodeConfig
from nmt.decoding import Similarities, sweep
from nmt.sinkhorn import decode


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
