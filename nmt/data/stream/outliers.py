"""Pairs with keypoints that have no partner: the outlier protocols of an evaluation, and those of a training.

A protocol makes them of evaluation pairs in a fixed way, a pure function of the data set and the number of the pair. So
all trainings are measured on the same ones. Letters as in nmt/batch.py.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nmt.config import DataConfig
from nmt.data.augment.seeding import OUTLIERS, generator
from nmt.data.store.objects import MIN_KEYPOINTS, ObjectStore
from nmt.data.stream.pair import Pair, make_pair
from nmt.data.stream.sampler import PairSampler, pair_sampler

INTER, UNION, CROSS = "inter", "union", "cross"
PROTOCOLS = (INTER, UNION, "drop2", "drop4", "both30", CROSS)
"""inter: published pairs, whose keypoints all match; union: their objects, each with all its keypoints; drop2, drop4: 2
or 4 keypoints are taken from one side, drawn at random; both30: 30 % of the keypoints are taken from either side;
cross: objects of two categories, nothing matches"""
FITTED = tuple(name for name in PROTOCOLS if name != UNION)
"""protocols that a calibration is fitted on and figures are pooled over; where no keypoint is missing, union is inter
once more"""
PAIRS = 100
"""most pairs of a protocol that a calibration is fitted on, spread over the categories: about a thousand keypoints for
five numbers; with 400 pairs F1 on other pairs is the same to 0.002"""

_DROPPED = {"drop2": 2, "drop4": 4}
_SHARE = 0.3
_NUMBER = {name: k for k, name in enumerate((*FITTED, UNION))}
"""protocol -> part of the seed of its draws"""
_MOST_LOST = 0.5
"""largest share of a side's keypoints that a training pair loses"""


def protocol_pairs(
    store: ObjectStore, config: DataConfig, *, split: str, most: int, protocols: Sequence[str] = PROTOCOLS
) -> dict[str, list[Pair]]:
    """Make the pairs of each protocol.

    Args:
        store: the data set.
        config: the `data` branch.
        split: train, val or test.
        most: largest number of pairs of a protocol.
        protocols: of `PROTOCOLS`, those that are wanted.

    Returns:
        Protocol -> its pairs, as many in each. Without "cross" where the split has one category only.
    """
    sampler = pair_sampler(store, split)
    each = -(-most // len(sampler.categories))
    plain = spread(sampler.fixed(0, min(each, config.eval_pairs)), most)
    wanted = [name for name in protocols if name != CROSS or len(sampler.categories) > 1]
    return {name: [_of_protocol(store, sampler, pair, name, k) for k, pair in enumerate(plain)] for name in wanted}


def _of_protocol(store: ObjectStore, sampler: PairSampler, pair: Pair, protocol: str, k: int) -> Pair:
    """Make pair number `k` of a protocol of evaluation pair `k`."""
    if protocol == INTER:
        return pair
    rng = generator(0, OUTLIERS, k, _NUMBER[protocol])
    if protocol == CROSS:
        return cross_pair(store, sampler, pair, rng)
    if protocol == UNION:
        common = np.sort(pair.keypoints0)
        return make_pair(store, pair.category, pair.row0, pair.row1, common, rng, union=True)
    return _outliers(pair, protocol, rng)


def spread(pairs: Sequence[Pair], most: int) -> list[Pair]:
    """Choose at most `most` pairs: the first of every category, then the second of each, and so on."""
    turn: dict[int, int] = {}
    ranked = []
    for pair in pairs:
        turn[pair.category] = turn.get(pair.category, -1) + 1
        ranked.append(turn[pair.category])
    return [pairs[k] for k in np.argsort(ranked, kind="stable")[:most]]


def _outliers(pair: Pair, protocol: str, rng: np.random.Generator) -> Pair:
    """Take keypoints from a pair as the protocol does."""
    sides = len(pair.keypoints0), len(pair.keypoints1)
    if protocol in _DROPPED:
        number, side = _DROPPED[protocol], int(rng.integers(2))
        keep = [_drop(size, number if s == side else 0, rng) for s, size in enumerate(sides)]
    else:
        keep = [_drop(size, round(_SHARE * size), rng) for size in sides]
    return pair.keep_sides(*keep)


def _drop(size: int, number: int, rng: np.random.Generator) -> np.ndarray:
    """Return (size,) bool, False at `number` random places; fewer where too few keypoints would be left."""
    keep = np.ones(size, bool)
    keep[rng.permutation(size)[: min(number, size - MIN_KEYPOINTS)]] = False
    return keep


def losing_pair(pair: Pair, rng: np.random.Generator) -> Pair:
    """Take keypoints from both sides of a pair, of each a share drawn between none and half; two always stay."""
    sides = len(pair.keypoints0), len(pair.keypoints1)
    shares = rng.random(2) * _MOST_LOST
    return pair.keep_sides(
        *(_drop(size, round(share * size), rng) for size, share in zip(sides, shares.tolist(), strict=True))
    )


def cross_pair(store: ObjectStore, sampler: PairSampler, pair: Pair, rng: np.random.Generator) -> Pair:
    """Pair the source object with a random object of another category, each with all its keypoints: nothing matches.

    Args:
        sampler: of a split with two categories or more.
        pair: gives the source object.
    """
    others = [category for category in sampler.categories if category != pair.category]
    rows = sampler.rows[others[rng.integers(len(others))]]
    row1 = int(rows[rng.integers(len(rows))])
    positions0, positions1 = (rng.permutation(len(store.keypoints(row))) for row in (pair.row0, row1))
    return Pair(
        pair.category,
        pair.row0,
        row1,
        store.keypoints(pair.row0)[positions0],
        store.keypoints(row1)[positions1],
        positions0,
        positions1,
        np.full(len(positions0), -1, np.int64),
    )
