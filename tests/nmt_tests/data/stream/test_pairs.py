import dataclasses
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings, strategies

from nmt.batch import PairBatch
from nmt.config import DataConfig
from nmt.data.graph import delaunay_edges, edge_attributes
from nmt.data.store.objects import ObjectStore
from nmt.data.stream.collate import graph
from nmt.data.stream.pairs import PairStream, eval_batches, eval_pairs, generator
from nmt.data.stream.sampler import PairSampler
from nmt.errors import UserError

FEATURES = DataConfig(name="toy", mode="features", image_size=64)
IMAGES = DataConfig(name="toy", mode="images", image_size=64)
REUSE = settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def tensors(batch: PairBatch) -> list[torch.Tensor]:
    views = [getattr(view, f.name) for view in (batch.source, batch.target) for f in dataclasses.fields(view)]
    return [t for t in [*views, batch.match_BN, batch.category_B] if t is not None]


def same(first: PairBatch, second: PairBatch) -> bool:
    return all(torch.equal(a, b) for a, b in zip(tensors(first), tensors(second), strict=True))


@pytest.fixture(scope="module")
def stream(toy_store, toy_features) -> PairStream:
    return PairStream(toy_store, FEATURES, split="train", seed=3, features=toy_features)


def test_stream_repeats_itself_and_changes_with_seed_epoch_and_index(toy_store, toy_features, stream):
    batch = stream.batch(1, [7])
    assert same(batch, stream.batch(1, [7]))
    other_seed = PairStream(toy_store, FEATURES, split="train", seed=4, features=toy_features)
    others = [stream.batch(2, [7]), stream.batch(1, [8]), other_seed.batch(1, [7])]
    assert not any(torch.equal(batch.source.points_BN2, other.source.points_BN2) for other in others)


@REUSE
@given(
    epoch=strategies.integers(0, 100), indices=strategies.lists(strategies.integers(0, 2**40), min_size=1, max_size=6)
)
def test_shuffled_sides_match_by_keypoint_name(stream, epoch, indices):
    batch = stream.batch(epoch, indices)
    ids0, ids1 = batch.source.nodes_BNC[..., 0], batch.target.nodes_BNC[..., 0]  # the fixture puts the id there
    mask = batch.source.mask_BN
    assert torch.equal(batch.source.num_B, batch.target.num_B) and (batch.source.num_B >= 2).all()
    assert (batch.match_BN[~mask] == -1).all()
    for b, num in enumerate(batch.source.num_B.tolist()):
        match = batch.match_BN[b, :num]
        assert sorted(match.tolist()) == list(range(num))
        assert torch.equal(ids0[b, :num], ids1[b, match])
    assert batch.source.points_BN2[~mask].count_nonzero() == 0


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


def test_stored_graph_relabelled_equals_the_graph_computed_anew(toy_store):
    rng = np.random.default_rng(0)
    for row in range(20):
        points = toy_store.points(row)
        order = rng.permutation(len(points))
        relabelled = set(map(tuple, graph(toy_store, row, order, points).T.tolist()))
        assert relabelled == set(map(tuple, delaunay_edges(points[order]).T.tolist()))


def test_graph_of_a_subset_is_its_own_triangulation(toy_store):
    rng = np.random.default_rng(0)
    for row in range(20):
        points = toy_store.points(row)
        order = rng.permutation(len(points))[:5]
        relabelled = set(map(tuple, graph(toy_store, row, order, points).T.tolist()))
        assert relabelled == set(map(tuple, delaunay_edges(points[order]).T.tolist()))


def test_a_pair_has_the_same_edges_and_attributes_alone_and_in_a_batch(stream):
    batch, alone = stream.batch(0, [5, 6, 7]), stream.batch(0, [6])
    width = batch.source.points_BN2.shape[1]
    inside = (batch.source.edge_index_2E[0] // width) == 1
    assert torch.equal(batch.source.edge_index_2E[:, inside] - width, alone.source.edge_index_2E)
    assert torch.equal(batch.source.edge_attr_E2[inside], alone.source.edge_attr_E2)
    points = alone.source.points_BN2[0].numpy()
    expected = edge_attributes(points, alone.source.edge_index_2E.numpy(), 64)
    np.testing.assert_array_equal(alone.source.edge_attr_E2.numpy(), expected)
    assert alone.source.edge_attr_E2.min() >= 0 and alone.source.edge_attr_E2.max() <= 1


def test_features_mode_and_images_mode_draw_the_same_pairs(toy_store, stream):
    plain = dataclasses.replace(IMAGES, erasing=0.0, cutmix=0.0, mixup=0.0)
    images = PairStream(toy_store, plain, split="train", seed=3).batch(0, range(8))
    features = stream.batch(0, range(8))
    assert torch.equal(images.source.points_BN2, features.source.points_BN2)
    assert torch.equal(images.match_BN, features.match_BN)
    assert images.source.image_B3HW.shape == (8, 3, 64, 64) and features.source.image_B3HW is None


def test_augmented_images_batch_equals_its_pairs_drawn_one_by_one(toy_store):
    always = dataclasses.replace(IMAGES, erasing=1.0, cutmix=1.0, mixup=1.0)
    stream = PairStream(toy_store, always, split="train", seed=0)
    batch = stream.batch(0, range(6))
    for b in range(6):
        alone = stream.batch(0, [b])
        num = int(alone.source.num_B[0])
        assert torch.equal(batch.source.image_B3HW[b], alone.source.image_B3HW[0])
        assert torch.equal(batch.target.image_B3HW[b], alone.target.image_B3HW[0])
        assert torch.equal(batch.match_BN[b, :num], alone.match_BN[0])


def test_what_erasing_covers_leaves_both_images(toy_store):
    plain = dataclasses.replace(IMAGES, erasing=0.0, cutmix=0.0, mixup=0.0)
    cut = PairStream(toy_store, dataclasses.replace(plain, erasing=1.0), split="train", seed=0).batch(0, range(40))
    whole = PairStream(toy_store, plain, split="train", seed=0).batch(0, range(40))
    assert torch.equal(cut.source.num_B, cut.target.num_B)
    assert (cut.source.num_B <= whole.source.num_B).all() and (cut.source.num_B < whole.source.num_B).any()
    for b in range(40):
        for view, full in ((cut.source, whole.source), (cut.target, whole.target)):
            kept = view.points_BN2[b, : view.num_B[b]].tolist()
            assert all(point in full.points_BN2[b].tolist() for point in kept)
        num = int(cut.source.num_B[b])
        assert sorted(cut.match_BN[b, :num].tolist()) == list(range(num))


def test_evaluation_takes_every_ordered_pair_of_a_small_category_once(toy_store):
    pairs = eval_pairs(toy_store, dataclasses.replace(FEATURES, eval_pairs=100), split="val")
    # 5 photographs of 2 views: each of 10 objects with the 8 objects of other photographs
    assert Counter(pair.category for pair in pairs) == {0: 80, 1: 80}
    assert len({(pair.row0, pair.row1) for pair in pairs}) == 160


def test_evaluation_samples_different_pairs_of_a_large_category(toy_store):
    pairs = eval_pairs(toy_store, dataclasses.replace(FEATURES, eval_pairs=50), split="val")
    assert Counter(pair.category for pair in pairs) == {0: 50, 1: 50}
    assert len({(pair.row0, pair.row1) for pair in pairs}) == 100


def test_ranks_share_the_evaluation_pairs(toy_store, toy_features):
    def points(**shard) -> list[list]:
        batches = eval_batches(toy_store, FEATURES, split="val", features=toy_features, batch_size=7, **shard)
        return [
            view[: int(num)].tolist()
            for b in batches
            for view, num in zip(b.source.points_BN2, b.source.num_B, strict=True)
        ]

    whole = points()
    assert [points(rank=r, world_size=3) for r in range(3)] == [whole[r::3] for r in range(3)]


def test_evaluation_is_never_augmented(toy_store):
    always = dataclasses.replace(IMAGES, erasing=1.0, cutmix=1.0, mixup=1.0, eval_pairs=3)
    pair = eval_pairs(toy_store, always, split="val")[0]
    batch = next(eval_batches(toy_store, always, split="val", batch_size=2))
    assert np.array_equal(batch.source.image_B3HW[0].permute(1, 2, 0), toy_store.image(pair.row0))
    expected = toy_store.points(pair.row0)[toy_store.keypoints(pair.row0).searchsorted(pair.keypoints0)]
    assert np.array_equal(batch.source.points_BN2[0, : len(expected)], expected)


def test_another_image_size_names_both_sizes(toy_store):
    with pytest.raises(UserError, match="64 pixels wide, but data.image_size is 128"):
        PairStream(toy_store, dataclasses.replace(IMAGES, image_size=128), split="train", seed=0)


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
