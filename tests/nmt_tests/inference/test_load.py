from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
import torch

from nmt import checkpoint
from nmt.config import Config, to_dict, with_overrides
from nmt.data.prepare.objects import prepare
from nmt.errors import UserError
from nmt.inference.load import load_model, load_trained, open_plain
from nmt.model.build import build_matcher
from tests.nmt_tests.data.readers.own.own_sets import config as own_config
from tests.nmt_tests.data.readers.own.own_sets import images, objects, write_json


def test_a_model_is_loaded_with_its_weights_in_evaluation_mode(small_checkpoint):
    model, config, categories = load_model(small_checkpoint)
    assert not model.training and config.model.d_model == 24 and categories == []
    saved = checkpoint.load(small_checkpoint)["model"]
    assert all(torch.equal(value, saved[name]) for name, value in model.state_dict().items())


TINY = {
    "data.image_size": 64,
    "model.backbone": "tf_efficientnet_lite0",
    "model.weights": "package",
    "model.d_model": 24,
    "model.heads": 3,
    "model.decoder_layers": 1,
}


def test_a_head_on_features_comes_back_without_a_backbone(trained: Path) -> None:
    matcher, config, categories = load_model(trained / "best.pt")
    assert matcher.backbone is None and not matcher.training and categories == ["chair", "plane"]
    assert config.model.d_model == 24 and config.data.mode == "features"
    for name, value in torch.load(trained / "best.pt", weights_only=True)["model"].items():
        assert torch.equal(matcher.state_dict()[name], value), name


@pytest.mark.parametrize("scale", [0.0, 0.03])
def test_a_backbone_comes_from_the_checkpoint_and_a_frozen_one_from_its_own_weights(
    tmp_path: Path, scale: float
) -> None:
    config = with_overrides(Config(), TINY | {"optim.backbone_lr_scale": scale}, source="test")
    original = build_matcher(config.model, image_size=64, features=None, seed=5)
    if scale:
        with torch.no_grad():  # it has been trained
            next(original.backbone.parameters()).add_(1.0)
    frozen = {} if scale else {"backbone."}
    weights = {k: v for k, v in original.state_dict().items() if not any(k.startswith(f) for f in frozen)}
    checkpoint.save(tmp_path / "best.pt", {"model": weights, "config": to_dict(config), "categories": ["a"]})
    matcher, _, _ = load_model(tmp_path / "best.pt")
    for name, value in original.state_dict().items():
        assert torch.equal(matcher.state_dict()[name], value), name


def test_a_checkpoint_of_an_unknown_setting_names_the_file(tmp_path: Path) -> None:
    content = {"model": {}, "config": {"model": {"colour": 1}}, "categories": []}
    checkpoint.save(tmp_path / "best.pt", content)
    with pytest.raises(UserError, match="best.pt: no configuration key 'model.colour'"):
        load_model(tmp_path / "best.pt")


@pytest.mark.parametrize("backend", ["torch_spline_conv", "pyg"])
def test_a_checkpoint_of_another_spline_backend_is_read_where_its_package_is_absent(
    small_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "torch_geometric.nn", None)
    content = checkpoint.load(small_checkpoint)
    content["config"]["model"]["spline_backend"] = backend
    checkpoint.save(tmp_path / "best.pt", content)
    matcher, config, _ = load_model(tmp_path / "best.pt")
    assert config.model.spline_backend == backend
    assert all(torch.equal(value, content["model"][name]) for name, value in matcher.state_dict().items())


def test_what_is_no_trained_matcher_or_does_not_fit_is_one_line(small_checkpoint: Path, tmp_path: Path) -> None:
    content = checkpoint.load(small_checkpoint)
    del content["version"]
    wider = {**content["config"], "model": {**content["config"]["model"], "d_model": 48}}
    deeper = {**content["config"], "model": {**content["config"]["model"], "decoder_layers": 2}}
    without = {name: value for name, value in content["model"].items() if not name.startswith("head.node")}
    features = {**content["config"], "data": {**content["config"]["data"], "mode": "features"}}
    for changed, message in (
        ({"config": wider}, "its weights do not fit the model of its configuration"),
        ({"config": deeper}, "its weights do not fit the model of its configuration"),
        ({"config": features, "model": without}, "its weights do not fit the model of its configuration"),
        ({"model": {}}, "its weights do not fit the model of its configuration"),
        ({"model": None}, "holds no trained matcher; give the best.pt of a training"),
        ({"config": 3}, "holds no trained matcher; give the best.pt of a training"),
    ):
        checkpoint.save(tmp_path / "best.pt", {**content, **changed})
        with pytest.raises(UserError, match=message) as error:
            load_model(tmp_path / "best.pt")
        assert "\n" not in str(error.value) and str(error.value).startswith(str(tmp_path / "best.pt"))


def test_what_a_checkpoint_knows_comes_with_it(trained: Path, small_checkpoint: Path) -> None:
    found = load_trained(trained / "best.pt")
    assert list(found.keypoint_names) == ["chair", "plane"] and all(found.keypoint_names.values())
    assert load_trained(small_checkpoint).keypoint_names == {} and load_trained(small_checkpoint).calibration is None


@pytest.mark.parametrize("split", ["test", "train"])
def test_a_data_set_for_evaluation_alone_may_have_other_categories(tmp_path: Path, split: str) -> None:
    images(tmp_path, 4)
    write_json(tmp_path, objects(4))
    (tmp_path / "pairs.csv").write_text(f"split,source,target\n{split},0.jpg,1.jpg\nval,2.jpg,3.jpg\n")
    prepare(own_config(), raw=tmp_path, out=tmp_path / "data")
    asked = {"checkpoint": Path("best.pt"), "categories": ["cow"]}
    if split == "test":
        assert open_plain(tmp_path / "data", own_config(), **asked)[0].info.categories == ["bird"]
        return
    with pytest.raises(UserError, match=r"its categories are not those best.pt was trained on \(cow\)"):
        open_plain(tmp_path / "data", own_config(), **asked)
