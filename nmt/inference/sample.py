"""TODO docstring of nmt.inference.sample."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from nmt.batch import PairBatch
from nmt.config import Config, DecodeConfig
from nmt.data.store.features import FeatureTable
from nmt.data.store.objects import ObjectStore
from nmt.data.stream.collate import PairIds, positions
from nmt.data.stream.pairs import eval_pairs, plain_batch
from nmt.decoding import predict
from nmt.inference.load import load_model
from nmt.inference.pictures import MatchedPair, draw_sheet
from nmt.model.matcher import Matcher


@torch.inference_mode()
def match_batch(matcher: Matcher, batch: PairBatch, setting: DecodeConfig) -> np.ndarray:
    """(B, N) int64: for each source keypoint the matched target keypoint, -1 = none."""
    device = next(matcher.parameters()).device
    return predict(matcher(batch.to(device)), setting).cpu().numpy()


def sample_pairs(
    matcher: Matcher, store: ObjectStore, features: FeatureTable | None, config: Config, *, split: str, count: int
) -> list[MatchedPair]:
    """`count` evaluation pairs of as many categories as there are, matched: always the same ones."""
    by_category: dict[int, list[PairIds]] = {}
    for pair in eval_pairs(store, config.data, split=split):
        by_category.setdefault(pair.category, []).append(pair)
    turns = [pairs[turn] for turn in range(count) for pairs in by_category.values() if turn < len(pairs)]
    chosen = turns[:count]
    was_training = matcher.training
    matcher.eval()
    predicted_BN = match_batch(matcher, plain_batch(store, chosen, features=features), config.decode)
    matcher.train(was_training)
    return [_matched(store, pair, row) for pair, row in zip(chosen, predicted_BN, strict=True)]


def draw_split(path: Path, *, data: Path | None, split: str, count: int = 8) -> np.ndarray:
    """A sheet of evaluation pairs of a split as the checkpoint at `path` matches them, uint8.

    Args:
        data: the Arrow data set; by default data/NAME of the checkpoint's configuration.
    """
    matcher, config, _ = load_model(path)
    place = data or Path("data") / config.data.name
    store = ObjectStore.open(place)
    in_features = config.data.mode == "features"
    features = FeatureTable.open(place, config.model, config.data.image_size) if in_features else None
    return draw_sheet(sample_pairs(matcher, store, features, config, split=split, count=count))


def _matched(store: ObjectStore, pair: PairIds, predicted_N: np.ndarray) -> MatchedPair:
    return MatchedPair(
        image0_HW3=store.image(pair.row0),
        image1_HW3=store.image(pair.row1),
        points0_N2=store.points(pair.row0)[positions(store, pair.row0, pair.keypoints0)],
        points1_M2=store.points(pair.row1)[positions(store, pair.row1, pair.keypoints1)],
        predicted_N=predicted_N[: len(pair.keypoints0)],
        match_N=pair.match_N,
        label=store.info.categories[pair.category],
    )
