import dataclasses
from collections import Counter

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies

from nmt.config import DataConfig
from nmt.data.augment.seeding import generator
from nmt.data.store.objects import ObjectStore
from nmt.data.stream.pairs import PairStream
from nmt.data.stream.sampler import PairSampler, pair_sampler
from nmt.errors import UserError

REUSE = settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@REUSE
@given(index=strategies.integers(0, 2**40))
def test_pairs_join_two_photographs_of_one_category_of_the_split(toy_store, index):
    pair = PairSampler(toy_store, "val").draw(generator(0, 0, 0, index))
    rows = [pair.row0, pair.row1]
    assert toy_store.photo[pair.row0] != toy_store.photo[pair.row1]
    assert (toy_store.category[rows] == pair.category).all() and (toy_store.split[rows] == 1).all()
    common = set(toy_store.keypoints(pair.row0)) & set(toy_store.keypoints(pair.row1))
    assert set(pair.keypoints0) == set(pair.keypoints1) == common


def test_both_sides_are_shuffled(stream):
    pairs = [stream.sampler.draw(generator(0, 0, 0, k)) for k in range(200)]
    for side in (lambda p: p.keypoints0, lambda p: p.keypoints1):
        in_order = sum((np.diff(side(pair)) > 0).all() for pair in pairs)
        assert in_order < 5


def test_categories_are_drawn_equally_whatever_their_size(make_store, toy_objects):
    objects = [o for o in toy_objects() if o.category == "chair" or int(o.photo.split("/")[1]) % 5 == 0]
    sampler = PairSampler(make_store(objects), "train")
    drawn = Counter(sampler.draw(generator(0, 0, 0, k)).category for k in range(1000))
    assert abs(drawn[0] - 500) < 80  # 5 standard deviations


def objects_with(keypoints: dict[str, str], toy_objects) -> list:
    """One chair a photograph, with the keypoints whose digits are given; the photograph's letter comes first."""
    raw = toy_objects()[0]
    return [
        dataclasses.replace(raw, id=f"chair/{name}", photo=name[0], points={f"c{d}": (5.0, 5.0) for d in digits})
        for name, digits in keypoints.items()
    ]


# Of the chairs' 18 ordered pairs of different photographs, 4 share two keypoints: (a1, b), (b, a1), (a2, b), (b, a2).
# Two objects of one photograph, (a1, a2), do not count. Planes always do. By hand: 4/18 of chairs to 1 of planes.
CHAIRS = {"a1": "012", "a2": "012", "b": "01", "c": "34", "d": "56"}


@pytest.mark.parametrize(("redraw", "share"), [("objects", 1 / 2), ("category", (4 / 18) / (4 / 18 + 1))])
def test_a_category_with_few_pairs_gets_as_many_steps_as_the_redraw_says(make_store, toy_objects, redraw, share):
    planes = [o for o in toy_objects() if o.category == "plane"]
    sampler = PairSampler(make_store([*objects_with(CHAIRS, toy_objects), *planes]), "train", redraw=redraw)
    num = 3000
    pairs = [sampler.draw(generator(0, 0, 0, k)) for k in range(num)]
    chairs = [pair for pair in pairs if pair.category == 0]
    assert abs(len(chairs) - share * num) < 5 * (num * share * (1 - share)) ** 0.5
    rows = Counter((pair.row0, pair.row1) for pair in chairs)
    assert len(rows) == 4 and max(rows.values()) < 1.5 * min(rows.values())


@pytest.mark.parametrize("redraw", ["objects", "category"])
def test_a_pair_is_a_function_of_its_index_alone(make_store, toy_objects, redraw):
    planes = [o for o in toy_objects() if o.category == "plane"]
    store = make_store([*objects_with(CHAIRS, toy_objects), *planes])
    config = DataConfig(name="toy", mode="images", image_size=64, redraw=redraw, mixup=0.0)
    together = PairStream(store, config, split="train", seed=1)
    rows = [(pair.row0, pair.row1) for pair in (together.pair(2, k) for k in range(40))]
    alone = PairStream(store, config, split="train", seed=1)
    again = {k: alone.pair(2, k) for k in reversed(range(40))}
    assert rows == [(again[k].row0, again[k].row1) for k in range(40)]


def test_a_category_of_one_photograph_cannot_pair(make_store, toy_objects):
    objects = [o for o in toy_objects(views=2) if o.category == "chair" or o.photo == "plane/0"]
    store: ObjectStore = make_store(objects)
    with pytest.raises(UserError, match="category plane has one photograph in train"):
        PairSampler(store, "train")


def test_objects_without_common_keypoints_cannot_pair(make_store, toy_objects):
    objects = [o for o in toy_objects() if o.photo in ("chair/0", "chair/1")]
    objects = [
        dataclasses.replace(o, points={f"c{5 * k + i}": (10.0 * i, 5.0) for i in range(3)})
        for k, o in enumerate(objects)
    ]
    with pytest.raises(UserError, match="no two train objects of chair share 2 keypoints"):
        PairSampler(make_store(objects), "train").draw(generator(0, 0))


def whole(toy_objects):
    """The toy objects that show all keypoints of their category, twice as many photographs."""
    names = {"chair": [f"c{k}" for k in range(10)], "plane": [f"p{k}" for k in range(8)]}
    rng = np.random.default_rng(2)
    return [
        dataclasses.replace(o, points={n: tuple(rng.random(2) * 64) for n in names[o.category]}) for o in toy_objects()
    ]


def test_where_no_keypoint_is_missing_the_union_draws_what_the_intersection_draws(make_store, toy_objects):
    store = make_store(whole(toy_objects))
    plain, union = (pair_sampler(store, "train", pairs=pairs) for pairs in ("intersection", "union"))
    both = [
        [*sampler.fixed(0, 30), *(sampler.draw(generator(3, 0, 1, k)) for k in range(30))] for sampler in (plain, union)
    ]
    for one, other in zip(*both, strict=True):
        for field in dataclasses.fields(one):
            assert np.array_equal(getattr(one, field.name), getattr(other, field.name)), field.name


def test_a_union_shows_all_keypoints_of_both_objects(toy_store):
    for pair in pair_sampler(toy_store, "val", pairs="union").fixed(0, 20):
        for row, ids in ((pair.row0, pair.keypoints0), (pair.row1, pair.keypoints1)):
            assert sorted(ids) == toy_store.keypoints(row).tolist()
        names = pair.keypoints1.tolist()
        assert pair.match_N.tolist() == [names.index(k) if k in names else -1 for k in pair.keypoints0]
