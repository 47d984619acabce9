import pytest

from nmt.config import ModelConfig
from nmt.data.prepare.features import add_features
from nmt.data.store.features import FeatureTable, features_path
from nmt.errors import UserError

MODEL = ModelConfig(backbone="tf_efficientnet_lite0", weights="random")


@pytest.fixture
def small(make_store, toy_objects):
    """Twenty objects: more than one batch of images."""
    return make_store(toy_objects()[:20])


def test_a_missing_table_names_the_command_that_makes_it(small):
    made = rf"--prepare toy --raw DIR --features tf_efficientnet_lite0 --data {small.directory}$"
    with pytest.raises(UserError, match=made):
        FeatureTable.open(small.directory, MODEL, 64)


def test_features_of_another_state_of_the_data_set_are_refused_and_made_anew(small, make_store, toy_objects):
    add_features(small.directory, MODEL)
    changed = make_store(toy_objects()[:19])
    with pytest.raises(UserError, match="made from another version of"):
        FeatureTable.open(changed.directory, MODEL, 64)
    add_features(changed.directory, MODEL)
    assert len(FeatureTable.open(changed.directory, MODEL, 64).nodes(18)) == len(changed.keypoints(18))


def test_other_weights_are_another_table(small):
    package = ModelConfig(backbone="tf_efficientnet_lite0", weights="package")
    assert features_path(small.directory, MODEL, 64) != features_path(small.directory, package, 64)
