"""A pack of matchers against the same matchers one by one: outputs, gradients, and nothing that leaks between them."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from nmt.config import ModelConfig
from nmt.errors import UserError
from nmt.model.decoder import LearnedScale
from nmt.model.matcher import Head, Matcher
from nmt.model.packed import PackedLayerNorm, PackedLinear, PackedMatcher, repeated, stacked
from tests.nmt_tests.model.made_pairs import SMALL, made_batch

K = 3


def matchers(model: ModelConfig = SMALL) -> list[Matcher]:
    members = []
    for seed in range(K):
        torch.manual_seed(seed)
        members.append(Matcher(Head(model, channels=12, global_channels=5), None))
        with torch.no_grad():  # scales and biases start equal in all
            for parameter in members[-1].parameters():
                parameter.add_(0.01 * torch.randn_like(parameter))
    return members


MODELS = {
    "all parts": SMALL,
    "no projection": dataclasses.replace(SMALL, feature_projection=0),
    "no spline": dataclasses.replace(SMALL, spline=False),
}


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS.keys())
def test_each_member_answers_and_learns_as_it_does_alone(model: ModelConfig) -> None:
    members, alone = matchers(model), matchers(model)
    pack, batch = PackedMatcher(members), made_batch([6, 4], 7)
    together = pack(repeated(batch, K))
    outputs = [matcher(batch) for matcher in alone]
    for k, (block, output) in enumerate(zip(together.similarity_BNM.split(2), outputs, strict=True)):
        torch.testing.assert_close(block, output.similarity_BNM, atol=1e-5, rtol=1e-4)
        # each member gets a weight of its own, so that a mixed-up gradient shows
        ((k + 1) * output.similarity_BNM.square().sum()).backward()
    weights = torch.arange(1.0, K + 1).repeat_interleave(2)[:, None, None]
    (weights * together.similarity_BNM.square()).sum().backward()
    pack.share_gradients(members)
    for member, expected in zip(members, alone, strict=True):
        for (name, found), parameter in zip(member.named_parameters(), expected.parameters(), strict=True):
            torch.testing.assert_close(
                found.grad, parameter.grad, atol=1e-4, rtol=1e-3, msg=lambda m, n=name: f"{n}: {m}"
            )


def test_a_member_that_has_become_nan_leaves_the_others_as_they_were() -> None:
    members, batch = matchers(), made_batch([5], 5)
    pack = PackedMatcher(members)
    before = pack(repeated(batch, K)).similarity_BNM
    with torch.no_grad():
        for parameter in members[1].parameters():
            parameter.fill_(torch.nan)
    after = pack(repeated(batch, K))
    assert after.similarity_BNM[1].isnan().any()
    torch.testing.assert_close(after.similarity_BNM[[0, 2]], before[[0, 2]], atol=0, rtol=0)
    after.similarity_BNM[[0, 2]].sum().backward()
    pack.share_gradients(members)
    assert all(p.grad.isfinite().all() for member in (members[0], members[2]) for p in member.parameters())


def test_members_and_pack_are_one_memory() -> None:
    members = [nn.Linear(3, 2) for _ in range(K)]
    pack = PackedLinear(members)
    with torch.no_grad():
        members[1].weight.fill_(7)
        pack.bias[2].fill_(-1)
    assert (pack.weight[1] == 7).all() and (members[2].bias == -1).all() and (pack.weight[0] != 7).all()


@pytest.mark.parametrize("bias", [True, False])
def test_linear_maps_and_norms_are_torchs_own_on_each_block(bias: bool) -> None:
    torch.manual_seed(0)
    linears = [nn.Linear(4, 6, bias=bias) for _ in range(K)]
    norms = [nn.LayerNorm(4) for _ in range(K)]
    for norm in norms:
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    x = torch.randn(K * 2, 5, 4)
    for members, packed in ((linears, PackedLinear(linears)), (norms, PackedLayerNorm(norms))):
        expected = torch.cat([m(block) for m, block in zip(members, x.split(2), strict=True)])
        torch.testing.assert_close(packed(x), expected)


def test_stacked_parameters_become_views() -> None:
    parameters = [nn.Parameter(torch.full((2,), float(k))) for k in range(K)]
    together = stacked(parameters)
    assert together.tolist() == [[k, k] for k in range(K)]
    assert [p.data_ptr() for p in parameters] == [row.data_ptr() for row in together]


def test_repeated_pairs_share_their_edges_and_can_be_told_apart_by_category() -> None:
    batch = dataclasses.replace(made_batch([4, 3], 5), category_B=torch.tensor([1, 0]))
    whole = repeated(batch, K, num_categories=2)
    assert whole.category_B.tolist() == [1, 0, 3, 2, 5, 4] and whole.num_pairs == 2 * K
    assert whole.source.edge_index_2E is batch.source.edge_index_2E
    for k in range(K):
        assert torch.equal(whole.match_BN[2 * k : 2 * k + 2], batch.match_BN)
        assert torch.equal(whole.target.nodes_BNC[2 * k : 2 * k + 2], batch.target.nodes_BNC.float())


def test_a_part_without_packed_form_is_named() -> None:
    members = matchers()
    for member in members:
        member.head.node_linear = nn.Bilinear(12, 12, 24)
    with pytest.raises(UserError, match="a Bilinear cannot be packed; train these configurations one by one"):
        PackedMatcher(members)
    assert isinstance(members[0].head.decoder0.layers[0].alpha_mlp, LearnedScale)
