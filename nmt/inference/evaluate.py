"""Evaluation: a model's similarities on fixed pairs, decoded at any setting, beside the baselines.

The similarities are computed once and kept; every decoding (Sinkhorn iterations, epsilon, assignment) is read from
them, so a sweep over the whole grid costs no forward pass. Letters as in nmt/batch.py; P evaluation pairs, A
categories.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from nmt.batch import PairBatch, Side
from nmt.config import Config, DecodeConfig, with_overrides
from nmt.decoding import model_score, similarities, sweep
from nmt.errors import UserError
from nmt.metrics import Counts
from nmt.model.matcher import Matcher, cosine
from nmt.sinkhorn import HIDDEN


def baselines(
    features: Callable[[PairBatch], tuple[Tensor, Tensor]],
    batches: Iterable[PairBatch],
    decode: DecodeConfig,
    *,
    num_categories: int,
    device: torch.device,
) -> dict[str, Counts]:
    """What is reached without training: {"chance", "positions", "nearest features"}.

    chance: one of the target keypoints at random. positions: Hungarian assignment of coordinates standardised in each
    image. nearest features: cosine of the backbone's features at the keypoints, Sinkhorn at `decode`.

    Args:
        features: batch -> (B, N, C), (B, M, C) backbone features at the keypoints.
    """
    kept: list[PairBatch] = list(batches)
    chance = Counts(*torch.zeros(2, num_categories, dtype=torch.float64))
    for batch in kept:
        expected_B = ((batch.match_BN >= 0).sum(1) / batch.target.num_B).double()
        total_B = (batch.match_BN >= 0).sum(1).double()
        chance.correct_A.index_add_(0, batch.category_B, expected_B)
        chance.total_A.index_add_(0, batch.category_B, total_B)

    def nearest(batch: PairBatch) -> Tensor:
        return cosine(*(F.normalize(x, dim=-1) for x in features(batch)))

    hungarian = DecodeConfig(sinkhorn_iterations=0, epsilon=1.0, assignment="hungarian")
    positions = sweep(similarities(position_score, kept, device=device), [hungarian], num_categories=num_categories)
    by_features = sweep(similarities(nearest, kept, device=device), [decode], num_categories=num_categories)
    return {"chance": chance.reduced(), "positions": positions[hungarian], "nearest features": by_features[decode]}


def position_score(batch: PairBatch) -> Tensor:
    """Minus the squared distance of coordinates standardised (mean 0, deviation 1) within each image: (B, N, M)."""

    def standardised(view: Side) -> Tensor:
        mask_BN1 = view.mask_BN[..., None].float()
        count_B11 = mask_BN1.sum(1, keepdim=True).clamp_min(1)
        centred = (view.points_BN2 - (view.points_BN2 * mask_BN1).sum(1, keepdim=True) / count_B11) * mask_BN1
        deviation = (centred.square().sum(1, keepdim=True) / count_B11).sqrt().clamp_min(1e-6)
        return centred / deviation

    distance_BNM = torch.cdist(standardised(batch.source), standardised(batch.target)).square()
    return -distance_BNM.clamp_max(-HIDDEN / 10)


@dataclass(frozen=True)
class Evaluation:
    """Accuracy of a matcher and of the baselines on one split, in [0, 1]."""

    split: str
    pairs: int
    decode: DecodeConfig
    per_category: dict[str, dict[str, float]]
    """method -> category -> accuracy"""
    mean: dict[str, float]
    """method -> mean over categories"""

    def table(self) -> str:
        """One row a category, the mean last; per cent."""
        methods = list(self.mean)
        categories = list(self.per_category[MODEL])
        width = max(len(name) for name in [*categories, "category"])
        lines = [f"{'category':{width}}  " + "  ".join(f"{m:>16}" for m in methods)]
        for name in categories:
            cells = (f"{self.per_category[m].get(name, float('nan')):16.1%}" for m in methods)
            lines.append(f"{name:{width}}  " + "  ".join(cells))
        lines.append(f"{'mean':{width}}  " + "  ".join(f"{self.mean[m]:16.1%}" for m in methods))
        return "\n".join(lines)


MODEL = "NMT"


def evaluate_checkpoint(
    path: Path, *, data: str | Path | None, split: str, decode: Mapping[str, Any] | None = None
) -> Evaluation:
    """The matcher at `path` (best.pt) and the baselines on the evaluation pairs of a split.

    Args:
        data: the Arrow data set, a folder or an address; by default data/NAME of the checkpoint's configuration.
        decode: decode.* keys and values, instead of the checkpoint's.

    Raises:
        UserError: no such checkpoint or data set, or the data set has other categories.
    """
    from nmt.data.stream.pairs import eval_batches
    from nmt.device import autocast, limit_threads, pick_device
    from nmt.inference.load import load_matcher, open_plain

    matcher, config, categories = load_matcher(path)
    config = with_overrides(config, decode or {}, source="--set")
    limit_threads(config)
    store, features = open_plain(data, config)
    if categories and list(store.info.categories) != categories:
        raise UserError(
            f"{store.directory}: its categories are not those {path} was trained on ({', '.join(categories)})"
        )
    device, num = pick_device(), len(store.info.categories)
    matcher.to(device)

    def batches() -> Iterable[PairBatch]:
        return eval_batches(store, config.data, split=split, features=features, batch_size=config.data.pairs_per_step)

    score = model_score(matcher, autocast=autocast(config.train.precision, device))
    stored = similarities(score, batches(), device=device)
    counts = {MODEL: sweep(stored, [config.decode], num_categories=num)[config.decode]}
    plain = _plain_features(matcher, config, features is not None, device)
    counts |= baselines(plain, batches(), config.decode, num_categories=num, device=device)
    return Evaluation(
        split=split,
        pairs=len(stored.category_P),
        decode=config.decode,
        per_category={m: c.accuracy_per_category(store.info.categories) for m, c in counts.items()},
        mean={m: c.accuracy() for m, c in counts.items()},
    )


def _plain_features(
    matcher: Matcher, config: Config, stored: bool, device: torch.device
) -> Callable[[PairBatch], tuple[Tensor, Tensor]]:
    """Features of the backbone as it came, before any training: stored ones, or a fresh backbone's."""
    untrained = matcher
    if not stored:
        from nmt.model.backbone import build_backbone

        backbone = build_backbone(config.model, config.data.image_size).to(device).eval()
        untrained = Matcher(matcher.head, backbone, image_size=config.data.image_size)
    return lambda batch: (untrained.features(batch.source)[0], untrained.features(batch.target)[0])
