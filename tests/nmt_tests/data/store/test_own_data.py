"""The default recipe of own data, and how the data set was prepared."""

from __future__ import annotations

import pytest

from nmt.config import with_overrides
from nmt.data.store.own_data import fitted, require_own_features
from nmt.errors import UserError
from nmt.recipes import recipe

RECIPE = recipe("birds", own=True)


def test_the_image_size_is_that_of_the_data_set_unless_it_was_chosen(make_store, toy_objects, tmp_path):
    store = make_store(toy_objects(views=1))
    size = store.info.image_size
    assert size != RECIPE.data.image_size
    found = fitted(RECIPE, store.directory, chosen=())
    assert found == with_overrides(RECIPE, {"data.image_size": size}, source="test")
    assert fitted(RECIPE, store.directory, chosen={"data.image_size"}) == RECIPE
    assert fitted(RECIPE, tmp_path / "absent", chosen=()) == RECIPE
    assert fitted(RECIPE, "s3://bucket/data/birds", chosen=()) == RECIPE


def test_a_damaged_data_set_is_left_to_whoever_opens_it(tmp_path):
    (tmp_path / "objects.arrow").write_bytes(b"no table")
    assert fitted(RECIPE, tmp_path, chosen=()) == RECIPE


def test_stored_features_are_asked_for_with_both_ways_out(toy_data, make_store, toy_objects, tmp_path):
    store = make_store(toy_objects(views=1))
    config = fitted(RECIPE, store.directory, chosen=())
    with pytest.raises(UserError, match="holds no stored features of tf_efficientnet_lite0") as error:
        require_own_features(config, store.directory)
    text = str(error.value)
    assert "make them with: python run.py --prepare birds --raw DIR" in text and "\n" not in text
    assert text.endswith("train end to end on the images with --set data.mode=images")
    require_own_features(with_overrides(config, {"data.mode": "images"}, source="test"), store.directory)
    require_own_features(config, tmp_path / "absent")
    require_own_features(config, "s3://bucket/data/birds")
    here = with_overrides(fitted(RECIPE, toy_data, chosen=()), {"model.weights": "random"}, source="test")
    require_own_features(here, toy_data)
