import dataclasses
import hashlib
import itertools
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings, strategies

from nmt.batch import PairBatch
from nmt.config import Config, DataConfig
from nmt.data.store.ready import ready_data
from nmt.data.stream.pairs import PairStream, eval_batches, eval_pairs
from nmt.errors import UserError
from nmt.metrics import count_correct

FEATURES = DataConfig(name="toy", mode="features", image_size=64)
IMAGES = DataConfig(name="toy", mode="images", image_size=64)
REUSE = settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def tensors(batch: PairBatch) -> list[torch.Tensor]:
    views = [getattr(view, f.name) for view in (batch.source, batch.target) for f in dataclasses.fields(view)]
    return [t for t in [*views, batch.match_BN, batch.category_B] if t is not None]


def same(first: PairBatch, second: PairBatch) -> bool:
    return all(torch.equal(a, b) for a, b in zip(tensors(first), tensors(second), strict=True))


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
        assert (batch.source.draw_B[b], batch.target.draw_B[b]) == (alone.source.draw_B[0], alone.target.draw_B[0])
        assert torch.equal(batch.match_BN[b, :num], alone.match_BN[0])


def test_each_image_of_an_epoch_has_a_number_of_its_own_for_stochastic_depth(toy_store) -> None:
    streams = [PairStream(toy_store, IMAGES, split="train", seed=seed) for seed in (0, 1)]
    batches = [stream.batch(epoch, range(20)) for stream in streams for epoch in (0, 1)]
    numbers = torch.cat([side.draw_B for batch in batches for side in (batch.source, batch.target)])
    assert numbers.dtype == torch.int64 and len(numbers.unique()) == 160
    (evaluation,) = itertools.islice(eval_batches(toy_store, IMAGES, split="val", batch_size=2), 1)
    assert evaluation.source.draw_B is None and evaluation.target.draw_B is None


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


PLAIN = DataConfig(name="toy", mode="images", image_size=64, erasing=0.0, cutmix=0.0, mixup=0.0)


def test_padding_to_a_number_no_larger_than_the_keypoints_is_refused(toy_store):
    with pytest.raises(UserError, match="up to 10 keypoints, so data.pad_keypoints must be at least 11 .* but is 10"):
        PairStream(toy_store, dataclasses.replace(PLAIN, pad_keypoints=10), split="train", seed=0)


PUBLISHED = {"images": "dd50b8a80f34815a", "features": "e4b3de846d846fd3", "val": "e1bb3abe877f2861"}
"""digest of the batches before keypoints could be without a partner"""
MOVED = dataclasses.replace(IMAGES, rotation=30.0, mirror=0.5, scale=0.2)


def digest(batches) -> str:
    found = hashlib.sha256()
    for batch in batches:
        for side in (batch.source, batch.target):
            names = ("points_BN2", "num_B", "edge_index_2E", "image_B3HW", "nodes_BNC", "draw_B")
            for value in (getattr(side, name) for name in names):
                found.update(b"" if value is None else value.contiguous().numpy().tobytes())
        found.update(batch.match_BN.numpy().tobytes())
    return found.hexdigest()[:16]


def test_the_published_pairs_are_what_they_were_to_the_byte(toy_store, toy_features, stream):
    images = PairStream(toy_store, MOVED, split="train", seed=3)
    val = dataclasses.replace(FEATURES, eval_pairs=20)
    assert {
        "images": digest(images.batch(epoch, range(12)) for epoch in (0, 7)),
        "features": digest(stream.batch(epoch, range(12)) for epoch in (0, 7)),
        "val": digest(eval_batches(toy_store, val, split="val", features=toy_features, batch_size=8)),
    } == PUBLISHED


def losing(toy_store, toy_features, *, begins=2, **changes):
    config = dataclasses.replace(FEATURES, **changes)
    return PairStream(toy_store, config, split="train", seed=3, features=toy_features, outliers_from=begins)


def test_keypoints_are_lost_from_their_epoch_on_and_no_other_draw_moves(toy_store, toy_features, stream):
    late, indices = losing(toy_store, toy_features, outliers=0.5), range(40)
    assert same(stream.batch(1, indices), late.batch(1, indices))
    whole, fewer = ([s.pair(2, k) for k in indices] for s in (stream, late))
    lost = 0
    for one, other in zip(whole, fewer, strict=True):
        assert (one.row0, one.row1) == (other.row0, other.row1)
        for ids, left in ((one.keypoints0, other.keypoints0), (one.keypoints1, other.keypoints1)):
            assert [k for k in ids.tolist() if k in left] == left.tolist()  # in the order of before
            assert len(left) >= max(2, len(ids) - round(len(ids) / 2))
        targets = other.keypoints1.tolist()
        assert other.match_N.tolist() == [targets.index(k) if k in targets else -1 for k in other.keypoints0.tolist()]
        lost += len(other.keypoints0) + len(other.keypoints1) < 2 * len(one.keypoints0)
    assert 10 < lost < 30  # half of them, less those of a share near 0


def test_what_is_lost_is_a_function_of_seed_epoch_and_index(toy_store, toy_features):
    late = losing(toy_store, toy_features, outliers=1.0, cross=0.3)
    batch = late.batch(5, [3, 9])
    alone = late.batch(5, [9])
    num = int(alone.target.num_B[0])
    assert torch.equal(batch.target.points_BN2[1, :num], alone.target.points_BN2[0])
    assert same(batch, losing(toy_store, toy_features, outliers=1.0, cross=0.3).batch(5, [3, 9]))
    assert not torch.equal(batch.source.num_B, late.batch(6, [3, 9]).source.num_B) or not same(
        batch, late.batch(6, [3, 9])
    )


def test_a_share_of_pairs_joins_two_categories_and_nothing_matches_there(toy_store, toy_features, stream):
    late = losing(toy_store, toy_features, cross=0.3)
    whole, crossed = ([s.pair(2, k) for k in range(60)] for s in (stream, late))
    apart = [toy_store.category[p.row0] != toy_store.category[p.row1] for p in crossed]
    assert 8 < sum(apart) < 28
    for one, other, is_apart in zip(whole, crossed, apart, strict=True):
        assert one.row0 == other.row0 and (other.match_N == -1).all() == is_apart
        assert is_apart or one.keypoints0.tolist() == other.keypoints0.tolist()


def test_one_category_has_none_to_cross_with(make_store, toy_objects):
    store = make_store([o for o in toy_objects() if o.category == "chair"])
    crossing = dataclasses.replace(IMAGES, cross=0.1)
    for check in (
        lambda: PairStream(store, crossing, split="train", seed=0, outliers_from=0),
        lambda: ready_data(store.directory, [Config(data=dataclasses.replace(crossing, mix_partner="objects"))]),
    ):
        with pytest.raises(UserError, match=r"has pairs of one category in train, and data.cross joins"):
            check()
    assert next(eval_batches(store, crossing, split="val", batch_size=2)).num_pairs == 2  # evaluation crosses nothing


def test_in_a_union_what_is_covered_or_moved_out_leaves_its_own_image_alone(toy_store):
    union = dataclasses.replace(MOVED, pairs="union", erasing=1.0, cutmix=1.0)
    moved = PairStream(toy_store, union, split="train", seed=0, outliers_from=0)
    gone = Counter()
    for index in range(40):
        pair = moved.pair(0, index)
        for side, row, ids, positions in (
            (0, pair.row0, pair.keypoints0, pair.positions0),
            (1, pair.row1, pair.keypoints1, pair.positions1),
        ):
            assert np.array_equal(toy_store.keypoints(row)[positions], ids) and len(ids) >= 2
            gone[side] += len(toy_store.keypoints(row)) - len(ids)
        targets = pair.keypoints1.tolist()
        assert pair.match_N.tolist() == [targets.index(k) if k in targets else -1 for k in pair.keypoints0.tolist()]
        batch = moved.batch(0, [index])
        assert (int(batch.source.num_B), int(batch.target.num_B)) == (len(pair.keypoints0), len(pair.keypoints1))
        for side in (batch.source, batch.target):
            assert (side.points_BN2 >= 0).all() and (side.points_BN2 <= 64).all()
    assert gone[0] > gone[1] > 0  # erasing and CutMix change the source alone, moves both


@pytest.mark.parametrize("mode", ["images", "features"])
def test_pairs_of_two_categories_survive_every_augmentation(toy_store, toy_features, mode):
    config = dataclasses.replace(MOVED, mode=mode, cross=1.0, erasing=1.0, cutmix=1.0, mirror=1.0)
    features = toy_features if mode == "features" else None
    stream = PairStream(toy_store, config, split="train", seed=0, features=features, outliers_from=0)
    batch = stream.batch(0, range(20))
    assert (batch.match_BN == -1).all() and (batch.source.num_B >= 2).all() and (batch.target.num_B >= 2).all()


def test_a_union_is_evaluated_on_all_visible_keypoints(toy_store, toy_features):
    config = dataclasses.replace(FEATURES, pairs="union", eval_pairs=10)
    batch = next(eval_batches(toy_store, config, split="val", features=toy_features, batch_size=20))
    pairs = eval_pairs(toy_store, config, split="val")
    assert batch.source.num_B.tolist() == [len(toy_store.keypoints(p.row0)) for p in pairs]
    assert batch.target.num_B.tolist() == [len(toy_store.keypoints(p.row1)) for p in pairs]
    assert ((batch.match_BN == -1) & batch.source.mask_BN).any()
    # Accuracy: right matches of the source keypoints that have a partner.
    counts = count_correct(batch.match_BN, batch.match_BN, batch.category_B, 2)
    common = sum(len(np.intersect1d(p.keypoints0, p.keypoints1)) for p in pairs)
    assert counts.accuracy() == 1.0 and int(counts.total_A.sum()) == common < int(batch.source.num_B.sum())
