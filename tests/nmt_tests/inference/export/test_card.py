"""The model card: its front matter is YAML, and it tells data, accuracy and licence."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import yaml

from nmt.inference.export.card import Accuracy, write_card
from nmt.inference.load import load_trained
from tests.small_model import write_checkpoint


def test_the_card_of_a_matcher_with_odd_names(tmp_path: Path) -> None:
    trained = load_trained(write_checkpoint(tmp_path / "best.pt"))
    trained = dataclasses.replace(trained, categories=["bird: small", "fish"])
    accuracies = [Accuracy("one training", "val", 0.5), Accuracy("mean of 5", "test", 0.4321, 0.4, 0.46)]
    path = write_card(trained, tmp_path, name='a "name": #1', description="", accuracies=accuracies, kind="hub")
    _, front, text = path.read_text().split("---\n", 2)
    content = yaml.safe_load(front)
    assert content["license"] == "other" and content["model-index"][0]["name"] == 'a "name": #1'
    results = content["model-index"][0]["results"]
    assert [r["metrics"][0]["value"] for r in results] == [0.5, 0.4321] and results[1]["dataset"]["split"] == "test"
    assert "| mean of 5 | test | 43.2 % [40.0, 46.0] |" in text and "| one training | val | 50.0 % |" in text
    assert "2 categories (bird: small, fish)" in text and "no pretrained weights" in text
    assert "| `model.d_model` | 648 | 24 |" in text


@pytest.mark.parametrize(
    ("backbone", "weights", "licence"),
    [
        ("efficientnet_lite0", "package", "apache-2.0"),
        ("swinv2_base_window12to24_192to384", "hub", "mit"),
        ("vit_base_patch16_dinov3", "hub", "dinov3-license"),
        ("vit_base_patch16_dinov3", "/a/file.pth", "not known"),
    ],
)
def test_the_licence_is_that_of_the_weights(tmp_path: Path, backbone: str, weights: str, licence: str) -> None:
    trained = load_trained(write_checkpoint(tmp_path / "best.pt"))
    model = dataclasses.replace(trained.config.model, backbone=backbone, weights=weights)
    trained = dataclasses.replace(trained, config=dataclasses.replace(trained.config, model=model))
    text = write_card(trained, tmp_path, name="n", description="", accuracies=[], kind="torch").read_text()
    assert f"are under: **{licence}" in text and "results: []" in text
