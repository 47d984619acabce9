import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nmt.config import LossConfig
from nmt.errors import UserError
from nmt.extensions import LOSS_TERMS
from nmt.losses import (
    hyperspherical,
    info_nce,
    inverse_match,
    layer_weights,
    loss_terms,
    plan_cross_entropy,
    plan_likelihood,
    register_loss_term,
    total_loss,
)
from nmt.model.matcher import MatchOutput, cosine


def test_info_nce_of_uniform_similarities_is_log_of_the_targets():
    match = torch.tensor([[1, 0, 2, -1]])
    mask1 = torch.tensor([[True, True, True, False]])
    loss = info_nce(torch.zeros(1, 4, 4), match, mask1, 0.1)
    assert math.isclose(float(loss), math.log(3), rel_tol=1e-6)


def test_hyperspherical_is_the_mean_of_each_points_largest_cosine():
    # angles 0, 60 and 180 degrees: nearest cosines 1/2, 1/2 and -1/2
    angles = torch.tensor([0.0, math.pi / 3, math.pi])
    tokens = torch.stack([angles.cos(), angles.sin()], dim=-1)[None]
    value = hyperspherical(tokens, torch.ones(1, 3, dtype=torch.bool))
    assert math.isclose(float(value), (0.5 + 0.5 - 0.5) / 3, abs_tol=1e-6)


def test_hyperspherical_of_a_single_point_is_zero():
    assert float(hyperspherical(torch.ones(1, 2, 4), torch.tensor([[True, False]]))) == 0.0


def test_inverse_match_inverts():
    assert inverse_match(torch.tensor([[2, 0, -1]]), 4).tolist() == [[1, -1, 0, -1]]


def test_layer_weights_are_flat_or_grow_to_one():
    assert layer_weights(4, "flat") == [1, 1, 1, 1]
    assert layer_weights(4, "linear") == [0.25, 0.5, 0.75, 1.0]


def made_output(num, width, seed):
    generator = torch.Generator().manual_seed(seed)
    mask = (torch.arange(width) < num)[None]
    tokens = [
        [torch.nn.functional.normalize(torch.randn(1, num + 1, 8, generator=generator), dim=-1) for _ in range(2)]
        for _ in range(2)
    ]
    garbage = torch.nn.functional.normalize(torch.ones(1, width - num, 8), dim=-1)
    tokens0, tokens1 = ([torch.cat([t, garbage], 1) for t in side] for side in tokens)
    output = MatchOutput(torch.empty(0), tokens0, tokens1, mask, mask)
    similarity = cosine(output.source_BND, output.target_BMD)
    match = torch.full((1, width), -1)
    match[0, :num] = torch.randperm(num, generator=generator)
    return MatchOutput(similarity, tokens0, tokens1, mask, mask), match


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 8), st.integers(1, 6), st.integers(0, 2**31))
def test_padding_changes_no_term(num, padding, seed):
    tight, match = made_output(num, num, seed)
    wide, wide_match = made_output(num, num + padding, seed)
    config = LossConfig(layer_weighting="linear")
    for name, value in loss_terms(tight, match, config).items():
        assert torch.allclose(value, loss_terms(wide, wide_match, config)[name], atol=1e-6), name


def test_every_term_has_its_weight_and_a_zero_weight_costs_nothing():
    output, match = made_output(5, 5, 0)
    terms = loss_terms(output, match, LossConfig())
    doubled = LossConfig(info_nce=2.0, hyperspherical=0.0, layer=0.5)
    expected = 2 * terms["info_nce"] + 0.5 * terms["layer"]
    assert set(loss_terms(output, match, doubled)) == {"info_nce", "layer"}
    assert torch.allclose(total_loss(loss_terms(output, match, doubled), doubled), expected.mean())


def test_plan_losses_of_a_certain_right_plan_vanish_and_of_a_wrong_one_do_not():
    match = torch.tensor([[1, 0, -1]])
    mask = torch.tensor([[True, True, False]])
    right = torch.full((1, 3, 3), -1e9)
    right[0, 0, 1] = right[0, 1, 0] = 0.0
    for loss in (plan_likelihood(right, match), plan_cross_entropy(right, match, mask, mask)):
        assert float(loss) == 0.0
    even = torch.full((1, 3, 3), math.log(0.5))
    assert math.isclose(float(plan_likelihood(even, match)), math.log(2), rel_tol=1e-6)
    # four real cells, each off by log 2, over two keypoints
    assert math.isclose(float(plan_cross_entropy(even, match, mask, mask)), 2 * math.log(2), rel_tol=1e-6)


@pytest.mark.parametrize("matching", ["sinkhorn", "cross_entropy"])
def test_losses_through_sinkhorn_ignore_padding_and_have_finite_gradients(matching):
    config = LossConfig(matching=matching, hyperspherical=0, layer=0)
    tight, match = made_output(4, 4, 3)
    wide, wide_match = made_output(4, 7, 3)
    value, padded = (loss_terms(o, m, config)["info_nce"] for o, m in ((tight, match), (wide, wide_match)))
    assert torch.allclose(value, padded, atol=1e-5)
    leaf = wide.similarity_BNM.clone().requires_grad_()
    output = MatchOutput(leaf, wide.tokens0_LBTD, wide.tokens1_LBTD, wide.mask0_BN, wide.mask1_BM)
    loss_terms(output, wide_match, config)["info_nce"].sum().backward()
    assert leaf.grad.isfinite().all() and leaf.grad[:, :4, :4].abs().sum() > 0


def test_an_extra_term_is_added_with_its_weight(monkeypatch):
    monkeypatch.setattr(LOSS_TERMS, "_items", {})

    @register_loss_term("confidence")
    def confidence(output, match_BN):
        return output.similarity_BNM.amax((1, 2))

    output, match = random_output(), torch.tensor([[0, 1, -1], [1, 0, 2]])
    config = LossConfig(extra="confidence", extra_weight=0.5)
    terms, plain = loss_terms(output, match, config), loss_terms(output, match, LossConfig())
    assert terms["confidence"].tolist() == output.similarity_BNM.amax((1, 2)).tolist()
    expected = total_loss(plain, LossConfig()) + 0.5 * terms["confidence"].mean()
    assert torch.allclose(total_loss(terms, config), expected)
    assert set(loss_terms(output, match, LossConfig(extra="confidence", extra_weight=0.0))) == set(plain)


def test_a_term_that_is_not_one_value_per_pair_is_refused(monkeypatch):
    monkeypatch.setattr(LOSS_TERMS, "_items", {})
    register_loss_term("mean")(lambda output, match_BN: output.similarity_BNM.mean())
    match = torch.tensor([[0, 1, -1], [1, 0, 2]])
    with pytest.raises(UserError, match=r"'mean' must give one value per pair, shape \(2,\), but gave shape \(\)"):
        loss_terms(random_output(), match, LossConfig(extra="mean"))
    with pytest.raises(UserError, match="loss.layer is a configuration key"):
        register_loss_term("layer")


def random_output() -> MatchOutput:
    """Two pairs of three keypoints."""
    generator = torch.Generator().manual_seed(0)
    tokens = [torch.nn.functional.normalize(torch.randn(2, 4, 8, generator=generator), dim=-1) for _ in range(2)]
    real = torch.ones(2, 3, dtype=torch.bool)
    return MatchOutput(cosine(tokens[0][:, 1:], tokens[1][:, 1:]), tokens[:1], tokens[1:], real, real)
