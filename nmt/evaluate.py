"""Evaluation: a model's similarities on fixed pairs, decoded at any setting, beside the baselines.

The similarities are computed once and kept; every decoding (Sinkhorn iterations, epsilon, assignment) is read from
them, so a sweep over the whole grid costs no forward pass. Letters as in nmt/batch.py; P evaluation pairs, A
categories.
"""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from nmt.batch import PairBatch, View
from nmt.config import Config, DecodeConfig
from nmt.errors import UserError
from nmt.metrics import Counts, count_correct
from nmt.model.matcher import Matcher, cosine
from nmt.sinkhorn import HIDDEN, assign, sinkhorn


@dataclass(frozen=True)
class Similarities:
    """Everything decoding needs of the evaluation pairs, padded to the longest, on the CPU."""

    similarity_PNM: Tensor
    mask0_PN: Tensor
    mask1_PM: Tensor
    match_PN: Tensor
    category_P: Tensor


@torch.no_grad()
def similarities(
    score: Callable[[PairBatch], Tensor], batches: Iterable[PairBatch], *, device: torch.device
) -> Similarities:
    """`score(batch)` -> (B, N, M) of every batch, stacked."""
    rows: list[Similarities] = []
    for batch in batches:
        batch = batch.to(device)
        parts = (score(batch).float(), batch.source.mask_BN, batch.target.mask_BN, batch.match_BN, batch.category_B)
        rows.append(Similarities(*(part.cpu() for part in parts)))
    if not rows:  # more ranks than evaluation pairs
        none = torch.empty(0, 0, dtype=torch.int64)
        return Similarities(torch.empty(0, 0, 0), none.bool(), none.bool(), none, none[:, :0].flatten())
    num0 = max(row.similarity_PNM.shape[1] for row in rows)
    num1 = max(row.similarity_PNM.shape[2] for row in rows)

    def stack(name: str, widths: tuple[int, ...], fill: float) -> Tensor:
        parts = [getattr(row, name) for row in rows]
        # F.pad lists the last dimension first
        pads = [[x for d in range(p.dim() - 1, 0, -1) for x in (0, widths[d - 1] - p.shape[d])] for p in parts]
        return torch.cat([F.pad(p, pad, value=fill) for p, pad in zip(parts, pads, strict=True)])

    return Similarities(
        stack("similarity_PNM", (num0, num1), 0.0),
        stack("mask0_PN", (num0,), False),
        stack("mask1_PM", (num1,), False),
        stack("match_PN", (num0,), -1),
        torch.cat([row.category_P for row in rows]),
    )


def model_score(matcher: Matcher, *, autocast: torch.autocast) -> Callable[[PairBatch], Tensor]:
    """The similarity of `matcher` as a score function."""

    def score(batch: PairBatch) -> Tensor:
        with autocast:
            return matcher(batch).similarity_BNM

    return score


def timed(score: Callable[[PairBatch], Tensor], taken: list[float]) -> Callable[[PairBatch], Tensor]:
    """`score`, noting in `taken` the seconds a pair of each batch."""

    def score_timed(batch: PairBatch) -> Tensor:
        started = time.perf_counter()
        similarity_BNM = score(batch)
        if similarity_BNM.is_cuda:
            torch.cuda.synchronize(similarity_BNM.device)
        taken.append((time.perf_counter() - started) / len(similarity_BNM))
        return similarity_BNM

    return score_timed


def sweep(stored: Similarities, settings: Sequence[DecodeConfig], *, num_categories: int) -> dict[DecodeConfig, Counts]:
    """Counts at every decode setting (summed over ranks), reading each Sinkhorn chain once.

    The settings of one epsilon share their iterations: 27 iterations pass through 1, 3 and 10 on the way.
    """
    found: dict[DecodeConfig, Counts] = {}
    by_epsilon = itertools.groupby(
        sorted(settings, key=lambda s: (s.epsilon, s.sinkhorn_iterations, s.assignment)), key=lambda s: s.epsilon
    )
    for epsilon, chain in by_epsilon:
        plan, done = sinkhorn(stored.similarity_PNM, stored.mask0_PN, stored.mask1_PM, epsilon=epsilon, iterations=0), 0
        for setting in chain:
            more = setting.sinkhorn_iterations - done
            plan = sinkhorn(plan, stored.mask0_PN, stored.mask1_PM, epsilon=1.0, iterations=more)
            done = setting.sinkhorn_iterations
            predicted_PN = assign(plan, stored.mask0_PN, stored.mask1_PM, assignment=setting.assignment)
            counts = count_correct(predicted_PN, stored.match_PN, stored.category_P, num_categories)
            found[setting] = counts.reduced()
    return {setting: found[setting] for setting in settings}


def settings_of(config: Config, grid: Sequence[DecodeConfig]) -> list[DecodeConfig]:
    """The configured decode setting, then those of the grid, each once.

    Where the matching loss goes through a Sinkhorn plan its iterations and epsilon belong to the training: they stay.
    """
    decode = config.decode
    if config.loss.matching != "infonce":
        grid = [dataclasses.replace(decode, assignment=setting.assignment) for setting in grid]
    return list(dict.fromkeys([decode, *grid]))


def best_setting(swept: dict[DecodeConfig, Counts]) -> DecodeConfig:
    """The setting of highest accuracy; the first given wins a tie."""
    return max(swept, key=lambda setting: swept[setting].accuracy())


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

    def standardised(view: View) -> Tensor:
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


def evaluate_checkpoint(path: Path, *, data: Path | None, split: str) -> Evaluation:
    """The matcher at `path` (best.pt) and the baselines on the evaluation pairs of a split.

    Args:
        data: the Arrow data set; by default data/NAME of the checkpoint's configuration.

    Raises:
        UserError: no such checkpoint or data set, or the data set has other categories.
    """
    from nmt.data.store.features import FeatureTable
    from nmt.data.store.objects import ObjectStore
    from nmt.data.stream.pairs import eval_batches
    from nmt.match import load_matcher
    from nmt.trainer import autocast, limit_threads, pick_device

    matcher, config, categories = load_matcher(path)
    limit_threads(config)
    place = data or Path("data") / config.data.name
    store = ObjectStore.open(place)
    if categories and list(store.info.categories) != categories:
        raise UserError(
            f"{store.directory}: its categories are not those {path} was trained on ({', '.join(categories)})"
        )
    in_features = config.data.mode == "features"
    features = FeatureTable.open(place, config.model, config.data.image_size) if in_features else None
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
