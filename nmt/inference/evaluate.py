"""Evaluation of a checkpoint on the fixed pairs of a split, beside baselines that need no training.

Letters as in nmt/batch.py; P evaluation pairs, A categories.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from nmt.batch import PairBatch, Side
from nmt.bootstrap import MEAN, intervals
from nmt.config import Config, DecodeConfig, with_overrides
from nmt.data.store.objects import ObjectStore
from nmt.decoding import Similarities, model_score, predicted, similarities, similarities_of_each
from nmt.errors import UserError
from nmt.inference import pck
from nmt.inference.outliers import OutlierFigures, outlier_figures
from nmt.inference.pck import PckFigures, Targets
from nmt.io.table import aligned, shortened
from nmt.model.matcher import Matcher, cosine
from nmt.pair_results import MODEL, PairResults
from nmt.sinkhorn import HIDDEN

if TYPE_CHECKING:
    from nmt.data.store.features import FeatureTable
    from nmt.data.stream.pair import Pair
    from nmt.seen_objects import Encode


def baselines(
    batches: Iterable[PairBatch],
    decode: DecodeConfig,
    *,
    device: torch.device,
    targets: Targets | None = None,
) -> dict[str, Tensor]:
    """Count what three methods without training match correctly.

    "chance" takes a target keypoint at random; its counts are expected values. "positions" solves the one-to-one
    assignment of coordinates standardised within each image. "nearest features" decodes the cosines of backbone
    features at the keypoints.

    Args:
        batches: the evaluation pairs with features of the untrained backbone; read once.
        decode: decoding of "nearest features".
        device: where to compute.
        targets: of the pairs, to count PCK too.

    Returns:
        Method, or its PCK at an alpha (nmt.inference.pck) -> (P,) float64, correct keypoints of each pair.
    """
    stored, near = similarities_of_each([position_score, feature_score], batches, device=device)
    hungarian = DecodeConfig(sinkhorn_iterations=0, epsilon=1.0, assignment="hungarian")
    return {
        **pck.counts_by_chance("chance", stored.mask1_PM, stored.match_PN, targets),
        **pck.counts("positions", predicted(stored, hungarian), stored.match_PN, targets),
        **pck.counts("nearest features", predicted(near, decode), near.match_PN, targets),
    }


def feature_score(batch: PairBatch) -> Tensor:
    """Score keypoints by the cosines of their features: (B, N, M)."""
    nodes = batch.source.nodes_BNC, batch.target.nodes_BNC
    return cosine(*(F.normalize(nodes_BNC.float(), dim=-1) for nodes_BNC in nodes if nodes_BNC is not None))


def position_score(batch: PairBatch) -> Tensor:
    """Score keypoints by position alone.

    Returns:
        (B, N, M): minus the squared distance of coordinates standardised (mean 0, deviation 1) within each image.
    """

    def standardised(side: Side) -> Tensor:
        mask_BN1 = side.mask_BN[..., None].float()
        count_B11 = mask_BN1.sum(1, keepdim=True).clamp_min(1)
        centred = (side.points_BN2 - (side.points_BN2 * mask_BN1).sum(1, keepdim=True) / count_B11) * mask_BN1
        deviation = (centred.square().sum(1, keepdim=True) / count_B11).sqrt().clamp_min(1e-6)
        return centred / deviation

    distance_BNM = torch.cdist(standardised(batch.source), standardised(batch.target)).square()
    return -distance_BNM.clamp_max(-HIDDEN / 10)  # stay above the score of padding


@dataclass(frozen=True)
class Evaluation:
    """Accuracy of a matcher and of the baselines on one split."""

    split: str
    pairs: int
    """number of evaluation pairs"""
    decode: DecodeConfig
    """decoding of the matcher and of the features baseline"""
    per_category: dict[str, dict[str, float]]
    """method -> category -> accuracy, in [0, 1]"""
    mean: dict[str, float]
    """method -> mean over categories, in [0, 1]"""
    outliers: OutlierFigures | None = None
    """figures of the matcher on pairs with keypoints that have no partner; None if they were not asked for"""
    folder: str = ""
    """folder of the data set on this machine; empty in the file of an earlier version"""
    photographs: int = 0
    """photographs in these pairs; 0 in the file of an earlier version"""
    intervals: dict[str, dict[str, tuple[float, float]]] = field(default_factory=dict)
    """method -> category, or nmt.bootstrap.MEAN -> 95 % interval over photographs"""
    pck: PckFigures | None = None
    """PCK of all methods; None if the data set, or the file, is of an earlier version"""

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Evaluation:
        """Decode what `dataclasses.asdict` returned. Raises KeyError or TypeError if it is something else."""
        outliers = content.get("outliers")
        found = None if outliers is None else OutlierFigures(**outliers)
        intervals = {
            method: {column: (low, high) for column, (low, high) in by_column.items()}
            for method, by_column in content.get("intervals", {}).items()
        }
        figures = content.get("pck")
        changed = {
            "decode": DecodeConfig(**content["decode"]),
            "outliers": found,
            "intervals": intervals,
            "pck": None if figures is None else PckFigures.from_dict(figures),
        }
        return cls(**{**content, **changed})

    def table(self) -> str:
        """Format the accuracies, in per cent, with one row per category and the mean last."""
        methods = list(self.mean)
        rows = [["category", *methods]]
        for name in self.per_category[MODEL]:
            accuracies = [self.per_category[method].get(name, float("nan")) for method in methods]
            rows.append([shortened(name), *(f"{accuracy:.1%}" for accuracy in accuracies)])
        rows.append(["mean", *(f"{self.mean[method]:.1%}" for method in methods)])
        found = [self.intervals.get(method, {}).get(MEAN) for method in methods]
        if any(found):
            rows.append(["95 % interval", *(f"[{100 * i[0]:.1f}, {100 * i[1]:.1f}]" if i else "-" for i in found)])
        return f"{aligned(rows, left=1)}{self._interval_note()}"

    def _interval_note(self) -> str:
        """Say what the intervals are over, or why there is none; empty for an evaluation of an earlier version."""
        if not self.photographs:
            return ""
        if MEAN in self.intervals.get(MODEL, {}):
            return f"\nthe interval is over the {self.photographs} photographs of these pairs (cluster bootstrap)"
        few = [name for name in self.per_category[MODEL] if name not in self.intervals.get(MODEL, {})]
        return f"\nno interval: too few photographs of {', '.join(map(shortened, few[:3]))}"


def evaluate_checkpoint(
    path: Path,
    *,
    data: str | Path | None,
    split: str,
    decode: Mapping[str, Any] | None = None,
    pairs_at_once: int | None = None,
    outliers: bool = False,
    dense: bool = False,
) -> Evaluation:
    """Evaluate the matcher of a checkpoint, and the baselines, on the evaluation pairs of a split.

    Arguments and errors are those of `evaluate_pairs`.
    """
    evaluation, _ = evaluate_pairs(
        path, data=data, split=split, decode=decode, pairs_at_once=pairs_at_once, outliers=outliers, dense=dense
    )
    return evaluation


def evaluate_pairs(
    path: Path,
    *,
    data: str | Path | None,
    split: str,
    decode: Mapping[str, Any] | None = None,
    pairs_at_once: int | None = None,
    outliers: bool = False,
    alone: bool = False,
    dense: bool = False,
) -> tuple[Evaluation, PairResults]:
    """Evaluate the matcher of a checkpoint, and return what was counted on each pair too.

    Args:
        path: the checkpoint, best.pt.
        data: the Arrow data set, a folder or an address; None: data/NAME of the checkpoint.
        split: val or test.
        decode: decode.* keys and values, instead of those of the checkpoint.
        pairs_at_once: pairs per forward pass, of the backbone on images; None: data.pairs_per_step of the checkpoint.
        outliers: also measure how the matcher leaves out keypoints that have no partner.
        alone: leave out the baselines.
        dense: also measure PCK of dense matching (nmt.inference.dense), on the images of the data set.

    Raises:
        UserError: no such checkpoint or data set, the data set has other categories, it has no test split, or the
            checkpoint was trained on val and is to be evaluated there; `dense` for a data set without sizes.
    """
    from nmt.data.stream.pairs import eval_pairs
    from nmt.device import autocast, limit_threads, pick_device
    from nmt.inference.load import load_trained, open_plain
    from nmt.seen_objects import encoder

    trained = load_trained(path)
    matcher, config = trained.matcher, with_overrides(trained.config, decode or {}, source="--set")
    _refuse_trained_on(split, config, path)
    limit_threads(config)
    store, features = open_plain(data, config, checkpoint=path, categories=trained.categories)
    if split == "test":
        _require_test(store)
    device, batch_size = pick_device(), pairs_at_once or config.data.pairs_per_step
    matcher.to(device)

    precision = autocast(config.train.precision, device)
    show: dict[str, Any] = {"split": split, "features": features, "batch_size": batch_size, "device": device}
    batches = _batches(store, config, encoder(matcher, autocast=precision), **show)
    stored = similarities(model_score(matcher, autocast=precision), batches, device=device)
    pairs = eval_pairs(store, config.data, split=split)
    targets = Targets.of(store, pairs)
    correct = pck.counts(MODEL, predicted(stored, config.decode), stored.match_PN, targets)
    if dense:
        correct |= _dense(matcher, store, config, pairs, stored.match_PN, targets, device=device)
    if not alone:
        untrained = matcher if features is not None else _untrained(matcher, config, device)
        batches = _batches(store, config, encoder(untrained, autocast=autocast("fp32", device)), **show)
        correct |= baselines(batches, config.decode, device=device, targets=targets)
    known: dict[str, Any] = {"split": split, "decode": config.decode, "folder": str(store.directory)}
    if outliers:
        place: dict[str, Any] = {"features": features, "device": device, "source": str(path)}
        known["outliers"] = outlier_figures(matcher, store, config, trained.calibration, split=split, **place)
    results = _pair_results(store, pairs, stored, correct)
    return _evaluation(results, targets, **known), results


def _refuse_trained_on(split: str, config: Config, path: Path) -> None:
    """Raise UserError if the checkpoint was trained on the split."""
    if split == "val" and not config.data.validates:
        raise UserError(
            f"{path}: was trained on val too (data.train_split), so its accuracy there means nothing; evaluate it with "
            "--split test"
        )


def _dense(
    matcher: Matcher,
    store: ObjectStore,
    config: Config,
    pairs: Sequence[Pair],
    match_PN: Tensor,
    targets: Targets | None,
    *,
    device: torch.device,
) -> dict[str, Tensor]:
    """Count what dense matching gets right. Raises UserError for a data set without sizes."""
    from nmt.device import autocast
    from nmt.inference.dense import DenseMatcher, dense_counts

    if targets is None:
        raise UserError(f"{store.directory}: --dense needs the sizes of objects; prepare it again, which adds them")
    # A head that was trained on stored features gets those of the same frozen backbone.
    backbone = matcher.backbone or _untrained(matcher, config, device).backbone
    assert backbone is not None, "a matcher that was given one"
    precision = autocast(config.train.precision, device)
    return dense_counts(
        DenseMatcher(matcher, backbone, config, device=device, autocast=precision), store, pairs, match_PN, targets
    )


def _pair_results(
    store: ObjectStore, pairs: Sequence[Pair], stored: Similarities, correct: Mapping[str, Tensor]
) -> PairResults:
    """Join the counts of the pairs with their photographs and categories."""
    counted = {name: correct_P.numpy() for name, correct_P in correct.items()}
    return PairResults.of(store, pairs, (stored.match_PN >= 0).sum(1).double().numpy(), counted)


def _evaluation(results: PairResults, targets: Targets | None, **known: Any) -> Evaluation:
    """Sum up the counts of the pairs; `known` are further fields of `Evaluation`."""
    counts = {name: results.counts(name) for name in results.correct if not pck.is_pck(name)}
    of_all = intervals(results)
    return Evaluation(
        **known,
        pairs=len(results.total_P),
        per_category={method: c.accuracy_per_category(results.categories) for method, c in counts.items()},
        mean={method: c.accuracy() for method, c in counts.items()},
        photographs=results.num_photographs,
        intervals={method: of_all[method] for method in counts},
        pck=None if targets is None else pck.pck_figures(results, of_all, targets),
    )


def _require_test(store: ObjectStore) -> None:
    """Raise UserError if the data set has no test split."""
    from nmt.data.store.partners import has_test

    if not has_test(store):
        raise UserError(
            f"{store.directory}: has no test split; evaluate on val, or prepare it again with photographs in split "
            "test, and train again"
        )


def _batches(
    store: ObjectStore,
    config: Config,
    encode: Encode,
    *,
    split: str,
    features: FeatureTable | None,
    batch_size: int,
    device: torch.device,
) -> Iterator[PairBatch]:
    """Iterate over the evaluation pairs with features: the stored ones, or those that `encode` reads of images."""
    from nmt.data.store.ready import check_fit
    from nmt.data.stream.pairs import eval_batches, eval_pairs
    from nmt.seen_objects import SeenObjects

    features = check_fit(store, config.data, features)
    if features is not None:
        return eval_batches(store, config.data, split=split, features=features, batch_size=batch_size)
    pairs, width = eval_pairs(store, config.data, split=split), config.data.pad_keypoints
    return SeenObjects(encode, store, pairs, pairs_at_once=batch_size, device=device, width=width).batches(pairs)


def _untrained(matcher: Matcher, config: Config, device: torch.device) -> Matcher:
    """Return the matcher with a new backbone, as training starts with it."""
    from nmt.model.backbone import build_backbone

    return Matcher(matcher.head, build_backbone(config.model, config.data.image_size).to(device).eval())
