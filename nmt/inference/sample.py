"""Matches of a few evaluation pairs, to look at: for TensorBoard and for `--evaluate`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nmt.batch import PairBatch
from nmt.config import Config, DecodeConfig, with_overrides
from nmt.data.store.features import FeatureTable
from nmt.data.store.objects import ObjectStore
from nmt.data.stream.pair import Pair
from nmt.data.stream.pairs import eval_pairs, plain_batch
from nmt.decoding import predict
from nmt.inference.load import load_model, open_plain
from nmt.inference.pictures import MatchedPair, draw_sheet
from nmt.model.matcher import Matcher


@torch.inference_mode()
def match_batch(matcher: Matcher, batch: PairBatch, setting: DecodeConfig) -> np.ndarray:
    """Match the pairs of a batch.

    Args:
        matcher: a matcher in evaluation mode.
        batch: pairs, on any device.
        setting: the decoding.

    Returns:
        (B, N) int64: matched target keypoint of each source keypoint, -1 = none.
    """
    device = next(matcher.parameters()).device
    return predict(matcher(batch.to(device)), setting).cpu().numpy()


def sample_pairs(
    matcher: Matcher, store: ObjectStore, features: FeatureTable | None, config: Config, *, split: str, count: int
) -> list[MatchedPair]:
    """Match a few evaluation pairs, always the same ones, spread over as many categories as possible.

    Args:
        matcher: the matcher; its training mode is restored.
        store: the data set.
        features: its feature table (features mode), or None.
        config: configuration of the matcher.
        split: train, val or test.
        count: number of pairs.
    """
    chosen = _chosen(store, config, split, count)
    was_training = matcher.training
    matcher.eval()
    predicted_BN = match_batch(matcher, plain_batch(store, chosen, features=features), config.decode)
    matcher.train(was_training)
    return [matched_pair(store, pair, row) for pair, row in zip(chosen, predicted_BN, strict=True)]


def pair_names(store: ObjectStore, config: Config, *, split: str, count: int) -> list[str]:
    """Name the pairs of `sample_pairs`, each by its two objects."""
    return [f"{store.id(pair.row0)} → {store.id(pair.row1)}" for pair in _chosen(store, config, split, count)]


def _chosen(store: ObjectStore, config: Config, split: str, count: int) -> list[Pair]:
    """Return the first pair of every category, then the second of each, and so on."""
    by_category: dict[int, list[Pair]] = {}
    for pair in eval_pairs(store, config.data, split=split):
        by_category.setdefault(pair.category, []).append(pair)
    turns = [pairs[turn] for turn in range(count) for pairs in by_category.values() if turn < len(pairs)]
    return turns[:count]


def draw_split(
    path: Path, *, data: str | Path | None, split: str, count: int = 8, decode: Mapping[str, Any] | None = None
) -> np.ndarray:
    """Draw a sheet of evaluation pairs of a split, with the matches of a checkpoint.

    Args:
        path: the checkpoint.
        data: the Arrow data set, a folder or an address; None: data/NAME of the checkpoint.
        split: train, val or test.
        count: number of pairs.
        decode: decode.* keys and values, instead of those of the checkpoint.

    Returns:
        The picture, (H, W, 3) uint8.

    Raises:
        UserError: no such checkpoint or data set.
    """
    matcher, config, categories = load_model(path)
    config = with_overrides(config, decode or {}, source="--set")
    store, features = open_plain(data, config, checkpoint=path, categories=categories)
    return draw_sheet(sample_pairs(matcher, store, features, config, split=split, count=count))


def matched_pair(store: ObjectStore, pair: Pair, predicted_N: np.ndarray) -> MatchedPair:
    """Return the pair with its images, its points and its matches, as `draw_pair` takes it."""
    category = store.info.categories[pair.category]
    names = store.info.keypoint_names[category]
    return MatchedPair(
        image0_HW3=store.image(pair.row0),
        image1_HW3=store.image(pair.row1),
        points0_N2=store.points(pair.row0)[pair.positions0],
        points1_M2=store.points(pair.row1)[pair.positions1],
        predicted_N=predicted_N[: len(pair.positions0)],
        match_N=pair.match_N,
        label=category,
        names0=[names[k] for k in pair.keypoints0],
        names1=[names[k] for k in pair.keypoints1],
    )
