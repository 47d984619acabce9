from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from nmt.config import Config, with_overrides
from nmt.data.prepare.data_set import feature_models, prepare_data_set
from nmt.data.store.objects import ObjectStore

SMALL = {
    "data.name": "cups",
    "data.image_size": 64,
    "model.backbone": "tf_efficientnet_lite0",
    "model.weights": "random",
}


@pytest.fixture
def raw(tmp_path):
    """Nine photographs of a cup, three a split."""
    rng, rows = np.random.default_rng(0), ["image,category,keypoint,x,y,split"]
    (tmp_path / "raw").mkdir()
    for k in range(9):
        Image.fromarray(rng.integers(0, 255, (48, 64, 3), dtype=np.uint8)).save(tmp_path / f"raw/{k}.png")
        split = ("train", "val", "test")[k % 3]
        rows += [f"{k}.png,cup,{name},{rng.uniform(2, 60)},{rng.uniform(2, 46)},{split}" for name in "abc"]
    (tmp_path / "raw/keypoints.csv").write_text("\n".join(rows))
    return tmp_path / "raw"


def config(mode: str) -> Config:
    return with_overrides(Config(), SMALL | {"data.mode": mode}, source="test")


@pytest.mark.parametrize(
    ("mode", "backbone", "tables"),
    [
        ("images", None, []),
        ("images", "tf_efficientnet_lite0", ["tf_efficientnet_lite0"]),
        ("features", None, ["tf_efficientnet_lite0"]),
        ("features", "tf_efficientnet_lite0", ["tf_efficientnet_lite0"]),
        ("features", "resnet18", ["tf_efficientnet_lite0", "resnet18"]),
    ],
)
def test_the_features_are_those_of_the_recipe_and_the_backbone_asked_for(raw, tmp_path, mode, backbone, tables):
    prepared = prepare_data_set(config(mode), raw=raw, out=tmp_path / "data", backbone=backbone)
    assert prepared.objects.made and len(ObjectStore.open(tmp_path / "data")) == 9
    assert [path.name.rsplit("-", 2)[0] for path in prepared.features] == tables
    assert all(path.is_file() for path in prepared.features)
    assert str(prepared).count("features: ") == len(tables)


def test_what_is_there_is_kept(raw, tmp_path):
    first = prepare_data_set(config("features"), raw=raw, out=tmp_path / "data")
    (table,) = first.features
    written = table.stat().st_mtime_ns
    again = prepare_data_set(config("features"), raw=raw, out=tmp_path / "data")
    assert not again.objects.made and again.features == first.features and table.stat().st_mtime_ns == written


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


def test_objects_alone_need_no_torch(tmp_path):
    code = (
        "import sys; from pathlib import Path; from nmt.config import Config; from nmt.errors import UserError; "
        "from nmt.data.prepare.data_set import prepare_data_set\n"
        "try: prepare_data_set(Config(), raw=Path(sys.argv[1]), out=sys.argv[2])\n"
        "except UserError as error: print(error, 'torch' in sys.modules)"
    )
    command = [sys.executable, "-c", code, tmp_path / "none", tmp_path / "data"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "none: does not exist" in done.stdout and done.stdout.endswith(" False\n")
