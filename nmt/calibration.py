"""Calibration of a trained matcher's confidences, on validation pairs with keypoints that have no partner.

Letters as in nmt/batch.py; P pairs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from nmt.batch import PairBatch
from nmt.confidence import Calibration, Rows, fit
from nmt.config import Config, DecodeConfig
from nmt.data.store.objects import ObjectStore
from nmt.data.stream.collate import Features
from nmt.data.stream.outliers import PAIRS, protocol_pairs
from nmt.data.stream.pair import Pair
from nmt.data.stream.pairs import plain_batch
from nmt.decoding import Similarities, model_score, predicted, similarities
from nmt.device import autocast
from nmt.model.matcher import Matcher
from nmt.seen_objects import SeenObjects, encoder, pairs_in_memory

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
    target_PN = predicted(stored, setting)
    return Rows.of(stored.similarity_PNM, stored.mask0_PN, stored.mask1_PM, target_PN, stored.match_PN)


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
    width, precision = config.data.pad_keypoints, autocast(config.train.precision, device)
    objects = SeenObjects(
        encoder(matcher, autocast=precision),
        store,
        [pair for pairs in protocols.values() for pair in pairs],
        pairs_at_once=pairs_in_memory(config),
        device=device,
        width=width,
    )

    def batches(pairs: Sequence[Pair]) -> Iterator[PairBatch]:
        for first in range(0, len(pairs), _AT_ONCE):
            some = pairs[first : first + _AT_ONCE]
            if features is None:
                yield objects.batch(some)
            else:
                yield plain_batch(store, some, features=features, width=width)

    score = model_score(matcher, autocast=precision)
    return {name: similarities(score, batches(pairs), device=device) for name, pairs in protocols.items()}
