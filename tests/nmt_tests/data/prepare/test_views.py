import dataclasses

import numpy as np
import pytest
import torch

from nmt.config import DataConfig, ModelConfig
from nmt.data.augment.seeding import TRAIN, generator
from nmt.data.prepare.features import add_features
from nmt.data.prepare.views import ViewMaker
from nmt.data.store.features import FeatureTable, ViewOptions
from nmt.data.store.objects import MIN_KEYPOINTS, ObjectStore
from nmt.data.store.verify import check
from nmt.data.stream.pairs import PairStream, eval_batches
from nmt.errors import UserError

MODEL = ModelConfig(backbone="tf_efficientnet_lite0", weights="random")
CONFIG = DataConfig(name="toy", mode="features", image_size=64, views=3, rotation=90.0, mirror=0.5, scale=0.3)
VIEWS = ViewOptions.of(CONFIG)


@pytest.fixture(scope="module")
def store(toy_store, tmp_path_factory) -> ObjectStore:
    directory = tmp_path_factory.mktemp("views")
    (directory / "objects.arrow").symlink_to(toy_store.directory / "objects.arrow")
    return ObjectStore.open(directory)


@pytest.fixture(scope="module")
def table(store) -> FeatureTable:
    add_features(store.directory, MODEL, views=VIEWS)
    return FeatureTable.open(store.directory, MODEL, 64, VIEWS)


def test_the_first_view_is_the_object_itself(store):
    view = ViewMaker(store, VIEWS)(7, 0)
    assert view.visible_N.all() and not view.mirrored
    np.testing.assert_array_equal(view.image_HW3, store.image(7))


def test_other_views_repeat_themselves_differ_and_keep_two_keypoints_in_sight(store):
    make, again = ViewMaker(store, VIEWS), ViewMaker(store, VIEWS)
    for row in range(30):
        first, second = make(row, 1), make(row, 2)
        np.testing.assert_array_equal(first.image_HW3, again(row, 1).image_HW3)
        assert (first.image_HW3 != second.image_HW3).any()
        for view in (first, second):
            seen_N2 = view.points_N2[view.visible_N]
            assert len(seen_N2) >= MIN_KEYPOINTS and (seen_N2 >= 0).all() and (seen_N2 <= 64).all()


def test_a_table_of_views_holds_each_objects_views_one_after_the_other(store, table):
    assert table.views == 3 and table.info["augmentation"]["rotation"] == 90.0
    make = ViewMaker(store, VIEWS)
    for row, view in ((0, 0), (5, 1), (119, 2)):
        expected = make(row, view)
        np.testing.assert_array_equal(table.points(row, view), expected.points_N2)
        np.testing.assert_array_equal(table.visible(row, view), expected.visible_N)
        assert table.mirrored(row, view) == expected.mirrored
        assert table.nodes(row, view).shape == (len(expected.points_N2), table.channels)
    assert (table.nodes(5, 1) != table.nodes(5, 0)).any()
    assert check(store.directory).rows == 120


def test_training_draws_views_and_evaluation_reads_the_plain_one(store, table):
    stream = PairStream(store, CONFIG, split="train", seed=0, features=table)
    batch = stream.batch(0, range(40))
    points = batch.source.points_BN2
    assert (batch.source.num_B >= MIN_KEYPOINTS).all() and torch.equal(batch.source.num_B, batch.target.num_B)
    moved = 0
    for b, num in enumerate(batch.source.num_B.tolist()):
        row = stream.sampler.draw(generator(0, TRAIN, 0, b)).row0
        stored = {tuple(p) for p in store.points(row).tolist()}
        moved += any(tuple(p) not in stored for p in points[b, :num].tolist())
        assert (points[b, :num] >= 0).all() and (points[b, :num] <= 64).all()
    assert 15 < moved < 40  # two of three views move
    plain = dataclasses.replace(CONFIG, views=1, rotation=0.0, mirror=0.0, scale=0.0)
    add_features(store.directory, MODEL)
    first = next(eval_batches(store, CONFIG, split="val", features=table, batch_size=8))
    table1 = FeatureTable.open(store.directory, MODEL, 64, ViewOptions())
    second = next(eval_batches(store, plain, split="val", features=table1, batch_size=8))
    assert torch.equal(first.source.points_BN2, second.source.points_BN2)
    torch.testing.assert_close(first.source.nodes_BNC, second.source.nodes_BNC, atol=2e-3, rtol=0)


def test_other_augmentation_is_another_table(store, table):
    other = ViewOptions.of(dataclasses.replace(CONFIG, rotation=10.0))
    with pytest.raises(UserError, match=r"--set data.views=3, and the same augmentation"):
        FeatureTable.open(store.directory, MODEL, 64, other)
