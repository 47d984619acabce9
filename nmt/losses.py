"""The loss of NMT: InfoNCE both ways, the hyperspherical term of both images, and the same after every layer.

Letters as in nmt/batch.py; T tokens, L layers. Every term is one value a pair, computed from that pair's real keypoints
alone, and the batch's loss is their mean: what else is in the batch, padding included, never matters.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from nmt.config import LossConfig
from nmt.model.matcher import MatchOutput, cosine


def info_nce(similarity_BNM: Tensor, match_BN: Tensor, mask1_BM: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of each matched source keypoint over the real target keypoints, mean over them: (B,)."""
    logits = (similarity_BNM / temperature).masked_fill(~mask1_BM[:, None], -torch.inf)
    losses_BN = F.cross_entropy(logits.transpose(1, 2), match_BN, ignore_index=-1, reduction="none")
    matched_BN = match_BN >= 0
    return (losses_BN * matched_BN).sum(1) / matched_BN.sum(1).clamp_min(1)


def hyperspherical(tokens_BTD: Tensor, mask_BT: Tensor) -> Tensor:
    """Mean over real tokens of the largest cosine to another real token of the same image: (B,)."""
    others_BTT = (
        mask_BT[:, :, None]
        & mask_BT[:, None, :]
        & ~torch.eye(mask_BT.shape[1], dtype=torch.bool, device=mask_BT.device)
    )
    nearest_BT = cosine(tokens_BTD, tokens_BTD).masked_fill(~others_BTT, -2.0).amax(2)
    counted_BT = mask_BT & (nearest_BT > -2.0)
    return (nearest_BT * counted_BT).sum(1) / counted_BT.sum(1).clamp_min(1)


def layer_weights(num_layers: int, weighting: str) -> list[float]:
    """Weight of each layer: all 1 ("flat", published code) or growing to 1 with depth ("linear", published text)."""
    return [1.0 if weighting == "flat" else (i + 1) / num_layers for i in range(num_layers)]


def inverse_match(match_BN: Tensor, num_targets: int) -> Tensor:
    """The match of each target keypoint, (B, M), -1 = none."""
    inverse_BM = match_BN.new_full((match_BN.shape[0], num_targets + 1), -1)
    sources_BN = torch.arange(match_BN.shape[1], device=match_BN.device).expand_as(match_BN)
    slots_BN = torch.where(match_BN >= 0, match_BN, num_targets)  # unmatched sources write to a slot cut off below
    return inverse_BM.scatter(1, slots_BN, sources_BN)[:, :num_targets]


def loss_terms(output: MatchOutput, match_BN: Tensor, config: LossConfig) -> dict[str, Tensor]:
    """Every term before its weight, one value a pair: {"info_nce", "hyperspherical", "layer"} -> (B,).

    A term whose weight is 0 is left out: it costs nothing.
    """
    terms: dict[str, Tensor] = {}
    mask0_BN, mask1_BM = output.mask0_BN, output.mask1_BM
    if config.info_nce:
        sim, back_BM = output.similarity_BNM, inverse_match(match_BN, mask1_BM.shape[1])
        terms["info_nce"] = info_nce(sim, match_BN, mask1_BM, config.temperature) + info_nce(
            sim.transpose(1, 2), back_BM, mask0_BN, config.temperature
        )
    if config.hyperspherical:
        terms["hyperspherical"] = hyperspherical(output.source_BND, mask0_BN) + hyperspherical(
            output.target_BMD, mask1_BM
        )
    if config.layer:
        mask0_BT, mask1_BS = F.pad(mask0_BN, (1, 0), value=True), F.pad(mask1_BM, (1, 0), value=True)
        weights = layer_weights(len(output.tokens0_LBTD), config.layer_weighting)
        terms["layer"] = sum(  # type: ignore[assignment]
            w / 2 * (hyperspherical(h0, mask0_BT) + hyperspherical(h1, mask1_BS))
            for w, h0, h1 in zip(weights, output.tokens0_LBTD, output.tokens1_LBTD, strict=True)
        )
    return terms


def total_loss(terms: dict[str, Tensor], config: LossConfig) -> Tensor:
    """The weighted sum of the terms, mean over pairs: a scalar."""
    return torch.stack([getattr(config, name) * value.mean() for name, value in terms.items()]).sum()
