"""Calibration of a trained matcher's confidences, on validation pairs with keypoints that have no partner.

Letters as in nmt/batch.py; P pairs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from nmt.batch import PairBatch
from nmt.confidence import Calibration, Rows, figures, fit
from nmt.config import Config, DecodeConfig
from nmt.data.store.objects import ObjectStore
from nmt.data.stream.collate import Features
from nmt.data.stream.outliers import FITTED, PAIRS, PROTOCOLS, protocol_pairs
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
    stored = _val_similarities(matcher, store, config, features=features, device=device)
    rows = {protocol: matches_of(pairs, config.decode) for protocol, pairs in stored.items()}
    if not any(len(several.right_R) for several in rows.values()):
        return None
    return fit(rows, {protocol: len(pairs.category_P) for protocol, pairs in stored.items()})


def f1_on_val(
    matcher: Matcher, store: ObjectStore, config: Config, *, features: Features | None, device: torch.device
) -> float:
    """Measure F1 on the validation pairs of every protocol, at a threshold that those pairs did not choose.

    A calibration is fitted on one half of the pairs, with its threshold of highest F1, and F1 is read on the other
    half; then the other way round. Both halves have pairs of every category.

    Args:
        matcher, store, config, features, device: as of `fit_on_val`.

    Returns:
        Mean of both halves; 0 where a half has no keypoint that is matched, or none with a partner.
    """
    stored = _val_similarities(matcher, store, config, features=features, device=device)
    halves = [
        Rows.joined([matches_of(half, config.decode) for half in several])
        for several in zip(*(pairs.halves() for pairs in stored.values()), strict=True)
    ]
    if not all(len(rows.right_R) and rows.matchable for rows in halves):
        return 0.0
    fitted = [fit({"half": rows}, {}) for rows in halves]
    return sum(figures(rows, other)["f1"] for rows, other in zip(halves, fitted[::-1], strict=True)) / 2


def _val_similarities(
    matcher: Matcher, store: ObjectStore, config: Config, *, features: Features | None, device: torch.device
) -> dict[str, Similarities]:
    """Compute the similarities of the validation pairs that a calibration is fitted on."""
    return protocol_similarities(
        matcher, store, config, split="val", features=features, device=device, most=PAIRS, protocols=FITTED
    )


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
    protocols: Sequence[str] = PROTOCOLS,
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
        protocols: those that are wanted.

    Returns:
        Protocol -> similarities of its pairs, on the CPU.
    """
    wanted = protocol_pairs(store, config.data, split=split, most=most, protocols=protocols)
    width, precision = config.data.pad_keypoints, autocast(config.train.precision, device)
    objects = SeenObjects(
        encoder(matcher, autocast=precision),
        store,
        [pair for pairs in wanted.values() for pair in pairs],
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
    return {name: similarities(score, batches(pairs), device=device) for name, pairs in wanted.items()}
