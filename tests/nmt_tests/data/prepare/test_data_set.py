"""A data set is made whole: its objects, and the features that its recipe trains on."""

from __future__ import annotations

from nmt.config import Config, with_overrides
from nmt.data.prepare.data_set import feature_models


def test_features_are_stored_where_the_recipe_trains_on_them_and_where_a_backbone_is_named():
    images = with_overrides(Config(), {"model.backbone": "one"}, source="test")
    features = with_overrides(images, {"data.mode": "features"}, source="test")
    assert [m.backbone for m in feature_models(images, None)] == []
    assert [m.backbone for m in feature_models(images, "one")] == ["one"]
    assert (
        [m.backbone for m in feature_models(features, None)]
        == [m.backbone for m in feature_models(features, "one")]
        == ["one"]
    )
    assert [m.backbone for m in feature_models(features, "two")] == ["one", "two"]
