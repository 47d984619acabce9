"""Which objects can be paired: the fast answer is that of comparing all with all."""

from __future__ import annotations

import dataclasses

from hypothesis import given
from hypothesis import strategies as st

from nmt.data.store.given_pairs import GIVEN_PAIRS, PAIRS_FILE, GivenPair, write_pairs
from nmt.data.store.objects import ObjectStore
from nmt.data.store.partners import Partners, has_test, pair_faults

objects = st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("pqrs"), st.frozensets(st.sampled_from("wxyz"))))


@given(objects)
def test_an_object_has_a_partner_where_any_other_photograph_shares_two_keypoints(found) -> None:
    partners = Partners()
    for seen in found:
        partners.add(*seen)
    for group, photo, keypoints in found:
        others = [k for g, p, k in found if g == group and p != photo]
        assert partners.has(group, photo, keypoints) == any(len(keypoints & other) >= 2 for other in others)
    for group in "abc":
        assert partners.num_photos(group) == min(2, len({p for g, p, _ in found if g == group}))


def test_a_data_set_with_pairs_has_no_fault(toy_store: ObjectStore) -> None:
    assert list(pair_faults(toy_store)) == [] and has_test(toy_store)


def test_splits_and_categories_without_pairs_are_named(make_store, toy_objects) -> None:
    kept = [o for o in toy_objects() if o.split == "train" and not (o.category == "plane" and o.id > "plane/0@0")]
    store = make_store(kept)
    assert list(pair_faults(store)) == [
        "category plane has no two photographs with 2 common keypoints in split train",
        "no objects in split val",
    ]
    assert not has_test(store)


def test_photographs_without_common_keypoints_make_no_pair(make_store, toy_objects) -> None:
    val = [o for o in toy_objects() if o.split == "val" and o.category == "chair"][:2]
    halves = [dict.fromkeys(names, (1.0, 2.0)) for names in (("c0", "c1", "c2"), ("c2", "c3", "c4"))]
    apart = [dataclasses.replace(o, points=points) for o, points in zip(val, halves, strict=True)]
    store = make_store([o for o in toy_objects() if o.split == "train"] + apart)
    assert list(pair_faults(store)) == ["category chair has no two photographs with 2 common keypoints in split val"]


def test_given_pairs_are_needed_in_train_and_val(make_store, toy_objects) -> None:
    store = make_store(toy_objects())
    store.info.options[GIVEN_PAIRS] = True
    write_pairs(
        store.directory / PAIRS_FILE,
        [GivenPair("train", store.id(0), store.id(1), ("c0", "c1"), (0,) * 5)],
        {store.id(0): 0, store.id(1): 1},
        store.info,
    )
    assert list(pair_faults(store)) == ["no given pairs in split val"] and not has_test(store)
