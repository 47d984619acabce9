"""The outlier protocols: what each takes from a pair, and that they are the same every time."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from nmt.config import DataConfig
from nmt.data.augment.seeding import generator
from nmt.data.stream.outliers import FITTED, PROTOCOLS, losing_pair, protocol_pairs, spread
from nmt.data.stream.pairs import eval_pairs

CONFIG = DataConfig(name="toy", image_size=64, eval_pairs=30)


@pytest.fixture(scope="module")
def found(toy_store):
    return protocol_pairs(toy_store, CONFIG, split="val", most=40)


def test_every_protocol_has_the_same_number_of_pairs_spread_over_the_categories(found):
    assert tuple(found) == PROTOCOLS
    for pairs in found.values():
        assert [pair.category for pair in pairs] == [0, 1] * 20


def test_matches_are_the_equal_names_of_both_sides_and_positions_stay_right(found, toy_store):
    for protocol, pairs in found.items():
        for pair in pairs:
            assert np.array_equal(toy_store.keypoints(pair.row0)[pair.positions0], pair.keypoints0)
            assert np.array_equal(toy_store.keypoints(pair.row1)[pair.positions1], pair.keypoints1)
            if protocol != "cross":
                targets = pair.keypoints1.tolist()
                partner = [targets.index(k) if k in targets else -1 for k in pair.keypoints0.tolist()]
                assert pair.match_N.tolist() == partner


def test_each_protocol_takes_as_many_keypoints_as_its_name_says(found, toy_store):
    sides = set()
    for k, plain in enumerate(found["inter"]):
        size = len(plain.keypoints0)
        assert (plain.match_N >= 0).all() and size == len(plain.keypoints1)
        for protocol, number in (("drop2", 2), ("drop4", 4)):
            pair = found[protocol][k]
            taken = size - len(pair.keypoints0), size - len(pair.keypoints1)
            assert sorted(taken) == [0, min(number, size - 2)]
            sides.add(taken.index(0))
        both = found["both30"][k]
        assert len(both.keypoints0) == len(both.keypoints1) == size - min(round(0.3 * size), size - 2)
        cross = found["cross"][k]
        assert (cross.match_N == -1).all()
        assert toy_store.category[cross.row0] != toy_store.category[cross.row1]
        assert (cross.row0, cross.category) == (plain.row0, plain.category)
        union = found["union"][k]
        assert (union.row0, union.row1) == (plain.row0, plain.row1)
        for row, ids in ((union.row0, union.keypoints0), (union.row1, union.keypoints1)):
            assert sorted(ids) == toy_store.keypoints(row).tolist()
        assert (union.match_N >= 0).sum() == size
    assert sides == {0, 1}


def test_they_are_the_same_every_time_and_a_smaller_number_is_their_beginning(found, toy_store):
    for most in (40, 12):
        for protocol, pairs in protocol_pairs(toy_store, CONFIG, split="val", most=most).items():
            assert len(pairs) == most
            for one, other in zip(pairs, found[protocol], strict=False):
                for name in ("row0", "row1", "keypoints0", "keypoints1", "match_N"):
                    assert np.array_equal(getattr(one, name), getattr(other, name))


def test_inter_pairs_are_evaluation_pairs(found, toy_store):
    def key(pair):
        return pair.row0, pair.row1, *pair.keypoints0.tolist(), *pair.keypoints1.tolist()

    assert set(map(key, found["inter"])) <= set(map(key, eval_pairs(toy_store, CONFIG, split="val")))


def test_one_category_has_no_pairs_across(make_store, toy_objects):
    store = make_store([o for o in toy_objects() if o.category == "chair"])
    assert tuple(protocol_pairs(store, CONFIG, split="val", most=10)) == PROTOCOLS[:-1]


def test_two_keypoints_of_a_side_always_stay(make_store, toy_objects):
    few = [
        dataclasses.replace(o, points={f"{o.category[0]}{k}": (10.0 * k, 9.0) for k in (1, 2, 3)})
        for o in toy_objects()
    ]
    for pairs in protocol_pairs(make_store(few), CONFIG, split="train", most=10).values():
        assert {2, 3} >= {len(ids) for pair in pairs for ids in (pair.keypoints0, pair.keypoints1)}


def test_spreading_takes_the_categories_in_turn(toy_store):
    pairs = eval_pairs(toy_store, CONFIG, split="val")
    chosen = spread(pairs, 5)
    assert [pair.category for pair in chosen] == [0, 1, 0, 1, 0]
    assert chosen[0] is pairs[0] and chosen[2] is pairs[1] and len(spread(pairs, 10**6)) == len(pairs)


def test_a_protocol_asked_for_alone_has_the_same_pairs(found, toy_store):
    some = protocol_pairs(toy_store, CONFIG, split="val", most=40, protocols=FITTED)
    assert tuple(some) == FITTED == tuple(name for name in PROTOCOLS if name != "union")
    assert all(
        one.keypoints0.tolist() == other.keypoints0.tolist()
        for name, pairs in some.items()
        for one, other in zip(pairs, found[name], strict=True)
    )


def test_a_training_pair_loses_up_to_half_of_each_side_and_keeps_two(found):
    taken = []
    for k, plain in enumerate(found["inter"]):
        size = len(plain.keypoints0)
        pair = losing_pair(plain, generator(1, 0, k))
        sides = len(pair.keypoints0), len(pair.keypoints1)
        assert all(max(2, size - round(size / 2)) <= side <= size for side in sides)
        taken.append(tuple(size - side for side in sides))
    assert len(set(taken)) > 5 and any(a != b for a, b in taken)
