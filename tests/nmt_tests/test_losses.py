import dataclasses
import itertools
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

PAIRS = LossConfig(reduction="pairs")


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
    for name, value in loss_terms(tight, match, config, mean_keypoints=5.0).items():
        padded = loss_terms(wide, wide_match, config, mean_keypoints=5.0)[name]
        assert torch.allclose(value, padded, atol=1e-6), name


def test_every_term_has_its_weight_and_a_zero_weight_costs_nothing():
    output, match = made_output(5, 5, 0)
    terms = loss_terms(output, match, PAIRS)
    doubled = LossConfig(reduction="pairs", info_nce=2.0, hyperspherical=0.0, layer=0.5)
    expected = 2 * terms["info_nce"] + 0.5 * terms["layer"]
    assert set(loss_terms(output, match, doubled)) == {"info_nce", "layer"}
    assert torch.allclose(total_loss(loss_terms(output, match, doubled), doubled), expected.mean())


def joined(batch: list[tuple[MatchOutput, torch.Tensor]]) -> tuple[MatchOutput, torch.Tensor]:
    """Join outputs of one pair each, of the same width, to one batch."""
    outputs, matches = zip(*batch, strict=True)
    tokens = ([torch.cat(layer) for layer in zip(*(getattr(o, n) for o in outputs), strict=True)] for n in TOKENS)
    similarity, mask = torch.cat([o.similarity_BNM for o in outputs]), torch.cat([o.mask0_BN for o in outputs])
    return MatchOutput(similarity, *tokens, mask, mask), torch.cat(matches)


TOKENS = ("tokens0_LBTD", "tokens1_LBTD")
NUMBERS = (2, 9, 4, 7, 3, 8)
"""keypoints of six pairs"""


@pytest.mark.parametrize("matching", ["infonce", "sinkhorn", "cross_entropy"])
def test_over_all_batches_the_loss_of_keypoints_is_the_published_mean_and_that_of_pairs_is_not(matching):
    pairs = [made_output(num, 9, seed) for seed, num in enumerate(NUMBERS)]
    by_keypoints, by_pairs = (LossConfig(matching=matching, reduction=r) for r in ("keypoints", "pairs"))
    mean = sum(NUMBERS) / len(NUMBERS)

    def loss(batch, config):
        output, match = joined(batch)
        return float(loss_terms(output, match, config, mean_keypoints=mean)["info_nce"].mean())

    # Published: one mean over the keypoints of a batch; here of all pairs at once.
    sums = [num * loss([pair], by_pairs) for num, pair in zip(NUMBERS, pairs, strict=True)]
    published = sum(sums) / sum(NUMBERS)
    batches = list(itertools.combinations(pairs, 2))
    found = {
        config.reduction: sum(loss(b, config) for b in batches) / len(batches) for config in (by_keypoints, by_pairs)
    }
    assert found["keypoints"] == pytest.approx(published, rel=1e-4)
    assert found["pairs"] != pytest.approx(published, rel=1e-2)


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 8), st.integers(0, 2**31))
def test_where_all_pairs_have_the_mean_number_of_keypoints_both_reductions_agree(num, seed):
    output, match = joined([made_output(num, 8, seed), made_output(num, 8, seed + 1)])
    terms = loss_terms(output, match, LossConfig(), mean_keypoints=float(num))
    for name, value in loss_terms(output, match, PAIRS).items():
        assert torch.allclose(value, terms[name], rtol=1e-6), name


@pytest.mark.parametrize("left", [1, 3, 6])
def test_a_pair_weighs_by_the_keypoints_that_it_has_left_in_both_directions(left):
    output, match = made_output(left, 6, 0)
    output = dataclasses.replace(output, similarity_BNM=torch.zeros(1, 6, 6))
    term = loss_terms(output, match, LossConfig(), mean_keypoints=6.0)["info_nce"]
    assert term.tolist() == pytest.approx([2 * left * math.log(left) / 6])


def test_a_loss_of_keypoints_without_their_mean_is_an_error():
    with pytest.raises(ValueError, match="mean number of keypoints"):
        loss_terms(*made_output(3, 3, 0), LossConfig())


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
    config = LossConfig(reduction="pairs", matching=matching, hyperspherical=0, layer=0)
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
    config = LossConfig(reduction="pairs", extra="confidence", extra_weight=0.5)
    terms, plain = loss_terms(output, match, config), loss_terms(output, match, PAIRS)
    assert terms["confidence"].tolist() == output.similarity_BNM.amax((1, 2)).tolist()
    expected = total_loss(plain, PAIRS) + 0.5 * terms["confidence"].mean()
    assert torch.allclose(total_loss(terms, config), expected)
    assert set(loss_terms(output, match, LossConfig(reduction="pairs", extra="confidence", extra_weight=0.0))) == set(
        plain
    )


def test_a_term_that_is_not_one_value_per_pair_is_refused(monkeypatch):
    monkeypatch.setattr(LOSS_TERMS, "_items", {})
    register_loss_term("mean")(lambda output, match_BN: output.similarity_BNM.mean())
    match = torch.tensor([[0, 1, -1], [1, 0, 2]])
    with pytest.raises(UserError, match=r"'mean' must give one value per pair, shape \(2,\), but gave shape \(\)"):
        loss_terms(random_output(), match, LossConfig(reduction="pairs", extra="mean"))
    with pytest.raises(UserError, match="loss.layer is a configuration key"):
        register_loss_term("layer")


def random_output() -> MatchOutput:
    """Two pairs of three keypoints."""
    generator = torch.Generator().manual_seed(0)
    tokens = [torch.nn.functional.normalize(torch.randn(2, 4, 8, generator=generator), dim=-1) for _ in range(2)]
    real = torch.ones(2, 3, dtype=torch.bool)
    return MatchOutput(cosine(tokens[0][:, 1:], tokens[1][:, 1:]), tokens[:1], tokens[1:], real, real)


def two_by_three() -> MatchOutput:
    """An output of one pair whose cosines are given: source 1 matches target 2, nothing else has a partner."""
    similarity = torch.tensor([[[0.5, 0.0, -0.5], [0.1, 0.2, 0.8]]])
    tokens0, tokens1 = [torch.zeros(1, 3, 4)], [torch.zeros(1, 4, 4)]
    return MatchOutput(similarity, tokens0, tokens1, torch.ones(1, 2, dtype=torch.bool), torch.ones(1, 3) > 0)


def log_share(own: float, *others: float) -> float:
    """Minus the log of the softmax of the first at temperature 0.5."""
    return -own / 0.5 + math.log(sum(math.exp(x / 0.5) for x in (own, *others)))


def test_dustbin_is_the_target_of_what_has_no_partner_by_hand():
    config = LossConfig(temperature=0.5, reduction="pairs", unmatched="dustbin", hyperspherical=0, layer=0)
    match = torch.tensor([[-1, 2]])
    sources = [log_share(-0.4, 0.5, 0.0, -0.5), log_share(0.8, 0.1, 0.2, -0.4)]
    targets = [log_share(-0.4, 0.5, 0.1), log_share(-0.4, 0.0, 0.2), log_share(0.8, -0.5, -0.4)]
    mean = (sum(sources) + sum(targets)) / 5
    found = loss_terms(two_by_three(), match, config)["info_nce"]
    assert float(found) == pytest.approx(2 * mean, rel=1e-5)  # both directions
    # Where keypoints count the same, the pair weighs as its 5 keypoints do: 2.5 a side, 4 in a mean pair.
    by_keypoints = dataclasses.replace(config, reduction="keypoints")
    found = loss_terms(two_by_three(), match, by_keypoints, mean_keypoints=4.0)["info_nce"]
    assert float(found) == pytest.approx(2 * mean * 2.5 / 4, rel=1e-5)


def test_without_a_dustbin_a_keypoint_without_partner_is_a_target_to_avoid_and_the_loss_is_as_published():
    config = LossConfig(temperature=0.5, reduction="pairs", hyperspherical=0, layer=0)
    found = loss_terms(two_by_three(), torch.tensor([[-1, 2]]), config)["info_nce"]
    assert float(found) == pytest.approx(log_share(0.8, 0.1, 0.2) + log_share(0.8, -0.5), rel=1e-5)
    output, match = made_output(6, 9, 1)
    published = [
        torch.nn.functional.cross_entropy(
            (cosines / 0.1).masked_fill(~output.mask1_BM[:, None], -torch.inf).transpose(1, 2),
            true,
            ignore_index=-1,
            reduction="none",
        ).sum(1)
        / 6
        for cosines, true in (
            (output.similarity_BNM, match),
            (output.similarity_BNM.transpose(1, 2), inverse_match(match, 9)),
        )
    ]
    assert torch.equal(loss_terms(output, match, PAIRS)["info_nce"], published[0] + published[1])


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 8), st.integers(1, 6), st.integers(0, 2**31))
def test_padding_changes_no_loss_with_a_dustbin_and_nothing_matched_is_finite(num, padding, seed):
    config = LossConfig(unmatched="dustbin")
    found = []
    for width in (num, num + padding):
        output, match = made_output(num, width, seed)
        match[0, 0] = -1
        found.append(loss_terms(output, match, config, mean_keypoints=5.0)["info_nce"])
        nothing = loss_terms(output, torch.full_like(match, -1), config, mean_keypoints=5.0)["info_nce"]
        assert torch.isfinite(nothing).all() and float(nothing) > 0
    assert torch.allclose(*found, atol=1e-6)
