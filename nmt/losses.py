"""The loss of NMT: InfoNCE both ways, the hyperspherical term of both images, and the same after every layer.

Letters as in nmt/batch.py; T tokens, L layers. Every term is one value a pair, computed from that pair's real keypoints
alone, and the batch's loss is their mean: what else is in the batch, padding included, never matters.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from nmt.confidence import SCORE
from nmt.config import Config, DecodeConfig, LossConfig
from nmt.errors import UserError
from nmt.extensions import LOSS_TERMS
from nmt.model.matcher import MatchOutput, cosine
from nmt.sinkhorn import sinkhorn


def info_nce(similarity_BNM: Tensor, match_BN: Tensor, mask1_BM: Tensor, temperature: float | Tensor) -> Tensor:
    """Compute InfoNCE: cross-entropy of each matched source keypoint over the real target keypoints.

    Args:
        similarity_BNM: cosines of source and target keypoints.
        match_BN: true target keypoint, -1 = none or padding.
        mask1_BM: True where a target keypoint is real.
        temperature: divides the cosines; a tensor of shape (B, 1, 1) gives every pair its own.

    Returns:
        (B,): mean over the matched source keypoints of a pair; `keypoint_share` weighs the pairs.
    """
    logits = (similarity_BNM / temperature).masked_fill(~mask1_BM[:, None], -torch.inf)
    losses_BN = F.cross_entropy(logits.transpose(1, 2), match_BN, ignore_index=-1, reduction="none")
    matched_BN = match_BN >= 0
    return (losses_BN * matched_BN).sum(1) / matched_BN.sum(1).clamp_min(1)


def with_dustbin(
    similarity_BNM: Tensor, match_BN: Tensor, mask0_BN: Tensor, mask1_BM: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Add a target to every pair, the dustbin, which is the match of the source keypoints that have none.

    Its cosine to all is `SCORE`, as in the plan that confidences are read from. A learned one was worse there.

    Returns:
        (B, N, M + 1) cosines, (B, N) matches, and (B, M + 1) mask of the targets, the dustbin last.
    """
    dustbin = similarity_BNM.shape[2]
    return (
        F.pad(similarity_BNM, (0, 1), value=SCORE),
        match_BN.masked_fill((match_BN < 0) & mask0_BN, dustbin),
        F.pad(mask1_BM, (0, 1), value=True),
    )


def plan_likelihood(log_plan_BNM: Tensor, match_BN: Tensor) -> Tensor:
    """Compute minus the log of the Sinkhorn plan at the true matches, mean over them: (B,)."""
    matched_BN = match_BN >= 0
    true_BN = log_plan_BNM.gather(2, match_BN.clamp_min(0)[..., None]).squeeze(2)
    return -(true_BN * matched_BN).sum(1) / matched_BN.sum(1).clamp_min(1)


def plan_cross_entropy(log_plan_BNM: Tensor, match_BN: Tensor, mask0_BN: Tensor, mask1_BM: Tensor) -> Tensor:
    """Compute the binary cross-entropy of the Sinkhorn plan against the true permutation: (B,).

    This is the permutation loss of PCA-GM (Wang et al., arXiv 1904.00597), with which the paper's ablation replaces its
    own losses (-15.1 points). The sum over real entries is divided by the number of real source keypoints.
    """
    plan_BNM = log_plan_BNM.exp().clamp(0, 1)  # a row may exceed 1 by rounding, where the loss is not defined
    true_BNM = torch.zeros_like(plan_BNM).scatter(2, match_BN.clamp_min(0)[..., None], 1.0)
    true_BNM = true_BNM * (match_BN >= 0)[..., None]
    losses_BNM = F.binary_cross_entropy(plan_BNM, true_BNM, reduction="none")
    real_BNM = mask0_BN[:, :, None] & mask1_BM[:, None]
    return (losses_BNM * real_BNM).sum((1, 2)) / mask0_BN.sum(1).clamp_min(1)


def matching_loss(
    output: MatchOutput,
    match_BN: Tensor,
    *,
    matching: str,
    temperature: float | Tensor,
    epsilon: float | Tensor,
    iterations: int,
    unmatched: str = "none",
) -> Tensor:
    """Compute the loss that pulls true matches together: (B,).

    Args:
        output: what the model computed.
        match_BN: true target keypoint, -1 = none or padding.
        matching: "infonce" (both directions, the published loss), "sinkhorn" or "cross_entropy", as `loss.matching`.
        temperature: temperature of InfoNCE; a tensor of shape (B, 1, 1) gives every pair its own.
        epsilon, iterations: parameters of the Sinkhorn plan, for the losses that read one; epsilon may be (B, 1, 1).
        unmatched: "none" or "dustbin", for InfoNCE, as `loss.unmatched`.
    """
    sim_BNM, mask0_BN, mask1_BM = output.similarity_BNM, output.mask0_BN, output.mask1_BM
    if matching == "infonce":
        back_BM = inverse_match(match_BN, mask1_BM.shape[1])
        if unmatched == "dustbin":
            there_B = info_nce(*with_dustbin(sim_BNM, match_BN, mask0_BN, mask1_BM), temperature)
            back_B = info_nce(*with_dustbin(sim_BNM.transpose(1, 2), back_BM, mask1_BM, mask0_BN), temperature)
            # Both sides may have different numbers of keypoints; each keypoint of the pair counts the same.
            num0_B, num1_B = mask0_BN.sum(1), mask1_BM.sum(1)
            return 2 * (num0_B * there_B + num1_B * back_B) / (num0_B + num1_B)
        return info_nce(sim_BNM, match_BN, mask1_BM, temperature) + info_nce(
            sim_BNM.transpose(1, 2), back_BM, mask0_BN, temperature
        )
    log_plan_BNM = sinkhorn(sim_BNM, mask0_BN, mask1_BM, epsilon=epsilon, iterations=iterations)
    if matching == "sinkhorn":
        return plan_likelihood(log_plan_BNM, match_BN)
    return plan_cross_entropy(log_plan_BNM, match_BN, mask0_BN, mask1_BM)


def counted_keypoints(output: MatchOutput, match_BN: Tensor, unmatched: str) -> Tensor:
    """Count the keypoints that the matching loss of each pair is the mean of, on one side: (B,).

    With a dustbin, all keypoints are, and the sides may differ: half of the keypoints of both.
    """
    if unmatched == "dustbin":
        return (output.mask0_BN.sum(1) + output.mask1_BM.sum(1)) / 2
    return (match_BN >= 0).sum(1)


def keypoint_share(counted_B: Tensor, mean_keypoints: float | Tensor) -> Tensor:
    """Compute the weight of each pair's matching loss where every keypoint counts the same: (B,).

    The published loss is one mean over all keypoints of the batch, so that a pair's gradient depends on the other
    pairs. Here the divisor is the mean of the data set, a constant. Keypoints that an augmentation drops reduce the
    pair's weight, as they do there.

    Args:
        counted_B: keypoints that each pair's loss is the mean of (`counted_keypoints`).
        mean_keypoints: mean number of matches of a training pair (nmt.data.stream.mean_keypoints); a tensor (B,) gives
            every pair its own.
    """
    return counted_B / mean_keypoints


def hyperspherical(tokens_BTD: Tensor, mask_BT: Tensor) -> Tensor:
    """Compute the hyperspherical term, which spreads an image's tokens over the sphere.

    It is the mean over real tokens of the largest cosine to another real token of the same image. The published code
    includes padding in this mean.

    Args:
        tokens_BTD: unit length.
        mask_BT: True where a token is real.

    Returns:
        (B,), in [-1, 1]; 0 for an image with a single token.
    """
    others_BTT = (
        mask_BT[:, :, None]
        & mask_BT[:, None, :]
        & ~torch.eye(mask_BT.shape[1], dtype=torch.bool, device=mask_BT.device)
    )
    nearest_BT = cosine(tokens_BTD, tokens_BTD).masked_fill(~others_BTT, -2.0).amax(2)
    counted_BT = mask_BT & (nearest_BT > -2.0)
    return (nearest_BT * counted_BT).sum(1) / counted_BT.sum(1).clamp_min(1)


def layer_weights(num_layers: int, weighting: str) -> list[float]:
    """Return the weight of each layer: all 1 ("flat", published code), or growing to 1 ("linear", published text)."""
    return [1.0 if weighting == "flat" else (i + 1) / num_layers for i in range(num_layers)]


def inverse_match(match_BN: Tensor, num_targets: int) -> Tensor:
    """Return the match of each of `num_targets` target keypoints, (B, M) int64, -1 = none."""
    inverse_BM = match_BN.new_full((match_BN.shape[0], num_targets + 1), -1)
    sources_BN = torch.arange(match_BN.shape[1], device=match_BN.device).expand_as(match_BN)
    slots_BN = torch.where(match_BN >= 0, match_BN, num_targets)  # unmatched sources write to a slot cut off below
    return inverse_BM.scatter(1, slots_BN, sources_BN)[:, :num_targets]


LossTerm = Callable[[MatchOutput, Tensor], Tensor]
"""(output, match (B, N) int64, -1 = none) -> one value per pair, (B,), of that pair's real keypoints alone"""


def register_loss_term(name: str) -> Callable[[LossTerm], LossTerm]:
    """Register the decorated function as the loss term `name`, for `loss.extra`.

    The configuration adds one term, with its weight in `loss.extra_weight`. Raises UserError for a name that is taken.
    """
    if name in (f.name for f in dataclasses.fields(LossConfig)):
        raise UserError(f"loss term {name!r}: loss.{name} is a configuration key; choose another name")

    def register(term: LossTerm) -> LossTerm:
        LOSS_TERMS.add(name, term)
        return term

    return register


def loss_terms(
    output: MatchOutput,
    match_BN: Tensor,
    config: LossConfig,
    decode: DecodeConfig | None = None,
    *,
    mean_keypoints: float | None = None,
) -> dict[str, Tensor]:
    """Compute every term of the loss, not yet weighted.

    Args:
        output: what the model computed.
        match_BN: true target keypoint, -1 = none or padding.
        config: weights and parameters; a term of weight 0 is left out, so it costs nothing.
        decode: Sinkhorn parameters, for the matching losses that read the plan; published values by default.
        mean_keypoints: see `keypoint_share`; read where `loss.reduction` is "keypoints".

    Returns:
        "info_nce", "hyperspherical", "layer" -> (B,), one value per pair.

    Raises:
        ValueError: no `mean_keypoints` where it is read.
    """
    terms: dict[str, Tensor] = {}
    decode = decode or DecodeConfig()
    if config.info_nce:
        terms["info_nce"] = matching_loss(
            output,
            match_BN,
            matching=config.matching,
            temperature=config.temperature,
            epsilon=decode.epsilon,
            iterations=decode.sinkhorn_iterations,
            unmatched=config.unmatched,
        )
        if config.reduction == "keypoints":
            if mean_keypoints is None:
                raise ValueError('loss.reduction = "keypoints" needs the mean number of keypoints of a pair')
            terms["info_nce"] = terms["info_nce"] * keypoint_share(
                counted_keypoints(output, match_BN, config.unmatched), mean_keypoints
            )
    if config.hyperspherical:
        terms["hyperspherical"] = output_term(output)
    if config.layer:
        terms["layer"] = layer_term(output, layer_weights(len(output.tokens0_LBTD), config.layer_weighting))
    if config.extra and config.extra_weight:
        terms[config.extra] = _extra_term(config.extra, output, match_BN)
    return terms


def _extra_term(name: str, output: MatchOutput, match_BN: Tensor) -> Tensor:
    """Return the registered term. Raises UserError if it is not one value per pair."""
    values_B: Tensor = LOSS_TERMS.get(name, source="loss.extra")(output, match_BN)
    if values_B.shape != match_BN.shape[:1]:
        raise UserError(
            f"loss term {name!r} must give one value per pair, shape {tuple(match_BN.shape[:1])}, "
            f"but gave shape {tuple(values_B.shape)}"
        )
    return values_B


def output_term(output: MatchOutput) -> Tensor:
    """Compute the hyperspherical term of the keypoints of both images, summed: (B,)."""
    return hyperspherical(output.source_BND, output.mask0_BN) + hyperspherical(output.target_BMD, output.mask1_BM)


def layer_term(output: MatchOutput, weights: Sequence[float | Tensor]) -> Tensor:
    """Compute the layer loss: the hyperspherical term after every layer, of all tokens, the global one included.

    Args:
        output: what the model computed.
        weights: one per layer; a tensor of shape (B,) gives every pair its own.

    Returns:
        (B,): mean of both images, summed over the layers.
    """
    mask0_BT, mask1_BS = F.pad(output.mask0_BN, (1, 0), value=True), F.pad(output.mask1_BM, (1, 0), value=True)
    parts = [
        w / 2 * (hyperspherical(h0, mask0_BT) + hyperspherical(h1, mask1_BS))
        for w, h0, h1 in zip(weights, output.tokens0_LBTD, output.tokens1_LBTD, strict=True)
    ]
    return torch.stack(parts).sum(0)


StepLoss = Callable[[MatchOutput, Tensor], tuple[dict[str, Tensor], Tensor]]
"""(output, match (B, N)) -> every term, (B,) each, not yet weighted; and the loss of the batch, a scalar"""


def step_loss(config: Config, mean_keypoints: float | None) -> StepLoss:
    """Make the loss of a training; `mean_keypoints` as in `loss_terms`."""

    def loss(output: MatchOutput, match_BN: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        terms = loss_terms(output, match_BN, config.loss, config.decode, mean_keypoints=mean_keypoints)
        return terms, total_loss(terms, config.loss)

    return loss


def total_loss(terms: dict[str, Tensor], config: LossConfig) -> Tensor:
    """Sum the weighted terms, each averaged over the pairs: a scalar."""
    parts = []
    for name, value in terms.items():
        weight = config.extra_weight if name == config.extra else getattr(config, name)
        parts.append(weight * value.mean())
    return torch.stack(parts).sum()
