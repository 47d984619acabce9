"""Calibration of a trained matcher's confidences, on validation pairs with keypoints that have no partner.

Letters as in nmt/batch.py; P pairs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from nmt.batch import PairBatch
from nmt.confidence import Calibration, Rows, fit
from nmt.config import Config, DecodeConfig
from nmt.data.store.objects import ObjectStore
from nmt.data.stream.collate import Features
from nmt.data.stream.outliers import PAIRS, protocol_pairs
from nmt.data.stream.pair import Pair
from nmt.data.stream.pairs import plain_batch
from nmt.decoding import Similarities, model_score, similarities
from nmt.device import autocast
from nmt.model.matcher import Matcher
from nmt.sinkhorn import decode

_AT_ONCE = 32
"""pairs of a forward pass of the head"""


def fit_on_val(
    matcher: Matcher, store: ObjectStore, config: Config, *, features: Features | None, device: torch.device
) -> Calibration | None:
    """Fit the calibration of a matcher on the validation pairs of every protocol.

    Args:
        matcher: in evaluation mode, on `device`.
        store: the data set.
        config: its configuration; `decode` chooses the targets whose confidence is fitted.
        features: the table of its backbone's features, in features mode.
        device: where to compute.

    Returns:
        None where no keypoint of val is matched.
    """
    stored = protocol_similarities(matcher, store, config, split="val", features=features, device=device, most=PAIRS)
    rows = {protocol: matches_of(pairs, config.decode) for protocol, pairs in stored.items()}
    if not any(len(several.right_R) for several in rows.values()):
        return None
    return fit(rows, {protocol: len(pairs.category_P) for protocol, pairs in stored.items()})


def matches_of(stored: Similarities, setting: DecodeConfig) -> Rows:
    """Decode pairs, and collect their matches with the evidence of each."""
    masks = stored.mask0_PN, stored.mask1_PM
    target_PN = decode(
        stored.similarity_PNM,
        *masks,
        epsilon=setting.epsilon,
        iterations=setting.sinkhorn_iterations,
        assignment=setting.assignment,
    )
    return Rows.of(stored.similarity_PNM, *masks, target_PN, stored.match_PN)


def protocol_similarities(
    matcher: Matcher,
    store: ObjectStore,
    config: Config,
    *,
    split: str,
    features: Features | None,
    device: torch.device,
    most: int,
) -> dict[str, Similarities]:
    """Compute the similarities of the pairs of every outlier protocol.

    In images mode the backbone reads each object once, for all protocols show the same ones.

    Args:
        matcher: in evaluation mode, on `device`.
        store: the data set.
        config: its configuration.
        split: train, val or test.
        features: the table of its backbone's features, in features mode.
        device: where to compute.
        most: largest number of pairs of a protocol.

    Returns:
        Protocol -> similarities of its pairs, on the CPU.
    """
    protocols = protocol_pairs(store, config.data, split=split, most=most)
    if features is None:
        rows = {row for pairs in protocols.values() for pair in pairs for row in (pair.row0, pair.row1)}
        features = _SeenObjects(matcher, store, sorted(rows), config, device)
    score = model_score(matcher, autocast=autocast(config.train.precision, device))
    width = config.data.pad_keypoints

    def batches(pairs: Sequence[Pair]) -> Iterator[PairBatch]:
        for first in range(0, len(pairs), _AT_ONCE):
            yield plain_batch(store, pairs[first : first + _AT_ONCE], features=features, width=width)

    return {name: similarities(score, batches(pairs), device=device) for name, pairs in protocols.items()}


class _SeenObjects:
    """Features of a few objects, read by the backbone of a matcher that was trained on images."""

    @torch.no_grad()
    def __init__(
        self, matcher: Matcher, store: ObjectStore, rows: Sequence[int], config: Config, device: torch.device
    ) -> None:
        self._nodes: dict[int, np.ndarray] = {}
        self._global: dict[int, np.ndarray] = {}
        at_once = config.data.pairs_per_step
        for first in range(0, len(rows), at_once):
            some = rows[first : first + at_once]
            side = plain_batch(store, [_itself(store, row) for row in some], features=None).source.to(device)
            with autocast(config.train.precision, device):
                nodes_BNC, global_BG = matcher.features(side)
            for row, nodes_NC, global_G in zip(some, nodes_BNC.cpu(), global_BG.cpu(), strict=True):
                self._nodes[row] = nodes_NC[: len(store.keypoints(row))].half().numpy()
                self._global[row] = global_G.float().numpy()
        self.channels, self.global_channels = nodes_BNC.shape[2], global_BG.shape[1]

    def nodes(self, row: int, view: int = 0) -> np.ndarray:
        return self._nodes[row]

    def global_feature(self, row: int, view: int = 0) -> np.ndarray:
        return self._global[row]


def _itself(store: ObjectStore, row: int) -> Pair:
    """Pair an object with itself, all its keypoints in stored order."""
    ids, order = store.keypoints(row), np.arange(len(store.keypoints(row)))
    return Pair(int(store.category[row]), row, row, ids, ids, order, order, order)
