"""What a trained matcher gets wrong on val: its hardest pairs, and its accuracy at every decoding.

It is a look within seconds, at as many pairs as fit. It stays on the CPU, so that a running search keeps its GPUs.
"""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nmt.batch import PairBatch
from nmt.config import Config, DecodeConfig, with_overrides
from nmt.data.store.objects import ObjectStore
from nmt.data.store.ready import check_fit
from nmt.data.stream.pair import Pair
from nmt.data.stream.pairs import eval_pairs, plain_batch
from nmt.decoding import Similarities, predicted, similarities, sweep
from nmt.device import autocast
from nmt.errors import UserError
from nmt.inference.load import load_model, open_plain
from nmt.inference.pictures import draw_pair
from nmt.inference.sample import matched_pair
from nmt.seen_objects import SeenObjects, encoder

PAIRS_AT_ONCE = 16
"""pairs of a forward pass on stored features; on images, where a pair may take seconds, it is one"""
MOST_OF_A_CATEGORY = 2
"""hardest pairs of one category that are shown"""


@dataclass(frozen=True, kw_only=True)
class HardPair:
    """A pair that the matcher gets wrong."""

    category: str
    right: int
    """keypoints matched rightly, of `known`"""
    known: int
    picture_HW3: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Look:
    """What a look at the validation pairs has found."""

    pairs: int
    """pairs that were matched, of `of`"""
    of: int
    accuracy: Mapping[DecodeConfig, float]
    """decoding -> accuracy, mean over categories"""
    hardest: tuple[HardPair, ...]
    """the lowest share of right matches first"""


@torch.inference_mode()
def look(
    path: Path,
    *,
    data: str | Path | None,
    decode: Mapping[str, Any],
    grid: Sequence[DecodeConfig],
    count: int = 6,
    seconds: float = 3.0,
) -> Look:
    """Match validation pairs until the time is over, those of all categories in turn.

    Args:
        path: the checkpoint.
        data: the Arrow data set, a folder or an address; None: data/NAME of the checkpoint.
        decode: decode.* keys and values that the hardest pairs are matched with.
        grid: decodings whose accuracy is wanted.
        count: number of hardest pairs.
        seconds: limit of the forward passes; the first one runs in any case.

    Raises:
        UserError: no such checkpoint or data set, or the checkpoint was trained on val.
    """
    matcher, config, names = load_model(path)
    config = with_overrides(config, decode, source="decoding")
    if not config.data.validates:
        raise UserError(f"{path}: was trained on val too (data.train_split)")
    store, features = open_plain(data, config, checkpoint=path, categories=names)
    features = check_fit(store, config.data, features)
    pairs = _in_turn(eval_pairs(store, config.data, split="val"))
    precision = autocast(config.train.precision, torch.device("cpu"))

    def score(batch: PairBatch) -> torch.Tensor:
        with precision:
            return matcher(batch).similarity_BNM

    if features is None:
        objects = SeenObjects(
            encoder(matcher, autocast=precision), store, pairs, pairs_at_once=1, device=torch.device("cpu")
        )
        shown = (objects.batch([pair]) for pair in pairs)
    else:
        starts = range(0, len(pairs), PAIRS_AT_ONCE)
        shown = (plain_batch(store, pairs[k : k + PAIRS_AT_ONCE], features=features) for k in starts)
    batches = _until(time.monotonic() + seconds, shown)
    stored = similarities(score, batches, device=torch.device("cpu"))
    counts = sweep(stored, grid, num_categories=len(store.info.categories))
    return Look(
        pairs=len(stored.category_P),
        of=len(pairs),
        accuracy={setting: found.accuracy() for setting, found in counts.items()},
        hardest=tuple(_hardest(store, config, pairs, stored, count)),
    )


def _in_turn(pairs: Sequence[Pair]) -> list[Pair]:
    """Order the pairs: the first of every category, then the second of each, and so on."""
    by_category: dict[int, list[Pair]] = {}
    for pair in pairs:
        by_category.setdefault(pair.category, []).append(pair)
    return [pair for turn in itertools.zip_longest(*by_category.values()) for pair in turn if pair is not None]


def _until(deadline: float, batches: Iterator[PairBatch]) -> Iterator[PairBatch]:
    """Yield batches until the time is over; one in any case."""
    for batch in batches:
        yield batch
        if time.monotonic() > deadline:
            return


def _hardest(
    store: ObjectStore, config: Config, pairs: Sequence[Pair], stored: Similarities, count: int
) -> Iterator[HardPair]:
    """Yield the pairs with the lowest share of right matches, a few of each category at most."""
    predicted_PN = predicted(stored, config.decode)
    known_PN = stored.match_PN >= 0
    right_P = ((predicted_PN == stored.match_PN) & known_PN).sum(1).numpy()
    known_P = known_PN.sum(1).numpy()
    share_P = right_P / np.maximum(known_P, 1)
    taken: Counter[int] = Counter()
    for k in np.argsort(share_P, kind="stable"):
        pair = pairs[k]
        if taken.total() == count or right_P[k] == known_P[k]:
            return
        if taken[pair.category] < MOST_OF_A_CATEGORY:
            taken[pair.category] += 1
            yield HardPair(
                category=store.info.categories[pair.category],
                right=int(right_P[k]),
                known=int(known_P[k]),
                picture_HW3=draw_pair(matched_pair(store, pair, predicted_PN[k].numpy())),
            )
