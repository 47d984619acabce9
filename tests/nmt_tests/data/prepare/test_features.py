import numpy as np
import pytest
import torch

import nmt.data.prepare.features
from nmt.config import ModelConfig
from nmt.data.prepare.features import add_features
from nmt.data.store.features import FeatureTable
from nmt.errors import UserError
from nmt.model.backbone import build_backbone

MODEL = ModelConfig(backbone="tf_efficientnet_lite0", weights="random")


@pytest.fixture
def small(make_store, toy_objects):
    """Twenty objects: more than one batch of images."""
    return make_store(toy_objects()[:20])


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "vit_small_patch14_dinov2"])
def test_table_holds_the_backbone_features_of_each_keypoint_alone(small, name: str) -> None:
    model = ModelConfig(backbone=name, weights="random")
    path = add_features(small.directory, model)
    table = FeatureTable.open(small.directory, model, 64)
    backbone = build_backbone(model, 64)
    assert table.path == path and table.channels == sum(backbone.channels)
    for row in (0, 15, 16, 19):
        with torch.inference_mode():
            maps = backbone(torch.from_numpy(small.image(row).copy()).permute(2, 0, 1)[None])
            points = torch.from_numpy(small.points(row).copy())[None]
            nodes = backbone.sample(maps, points)[0]
        assert table.nodes(row).dtype == np.float16
        np.testing.assert_allclose(table.nodes(row), nodes, atol=2e-3)
        np.testing.assert_allclose(table.global_feature(row), maps.global_BG[0], rtol=1e-3, atol=1e-4)


def test_a_finished_table_is_left_as_it_is(small):
    path = add_features(small.directory, MODEL)
    written = path.stat().st_mtime_ns
    assert add_features(small.directory, MODEL) == path and path.stat().st_mtime_ns == written
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_table_of_the_version_that_read_off_place_is_refused_and_made_anew(small, monkeypatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(nmt.data.prepare.features, "SAMPLING", 1)
        path = add_features(small.directory, MODEL)
    with pytest.raises(UserError, match=r"off place; make it anew with: .*--prepare toy .*--features tf_efficientnet"):
        FeatureTable.open(small.directory, MODEL, 64)
    assert add_features(small.directory, MODEL) == path and FeatureTable.open(small.directory, MODEL, 64).path == path


def test_threads_of_the_caller_are_left_as_they_were(small):
    before = torch.get_num_threads()
    add_features(small.directory, MODEL)
    assert torch.get_num_threads() == before


def test_a_wrong_backbone_leaves_nothing_behind(small):
    with pytest.raises(UserError):
        add_features(small.directory, ModelConfig(backbone="efficientnet_light", weights="random"))
    assert [path.name for path in small.directory.iterdir()] == ["objects.arrow"]
