"""The model card: its front matter is YAML, and it tells data, accuracy and licence."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from nmt.confidence import Calibration
from nmt.config import with_overrides
from nmt.data.graph import delaunay_edges
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


def test_the_card_tells_what_the_files_leave_out_of_the_decoding(tmp_path: Path) -> None:
    trained = load_trained(write_checkpoint(tmp_path / "best.pt"))
    calibration = Calibration((1.0, 0.0, 0.0, 0.0), 0.0, 0.4, "f1", {}, {}, ((0.0, 0.5), (0.7, 0.9)))
    decode = {"decode.assignment": "hungarian", "decode.unmatched": "precision=0.8"}
    config = with_overrides(trained.config, decode, source="test")
    trained = dataclasses.replace(trained, calibration=calibration, config=config)

    def text(kind: str) -> str:
        return write_card(trained, tmp_path, name="n", description="", accuracies=[], kind=kind).read_text()

    for kind in ("onnx", "torch"):
        assert "below **0.700**" in text(kind) and "`decode.assignment = hungarian`" in text(kind)
        assert "`match0` names a target for every source keypoint" in text(kind)
    assert "below **0.700**" in text("hub") and "match0" not in text("hub") and "## Assignment" not in text("hub")


@pytest.mark.parametrize(
    "points",
    [
        [(5, 5), (10, 10), (30, 30)],
        [(5, 5), (10, 10), (30, 30), (40, 40), (60, 60)],
        [(1, 2), (50, 60)],
        [(0, 0), (60, 3), (20, 40), (31, 17), (9, 50)],
    ],
)
def test_the_snippet_makes_the_graph_of_the_matcher(tmp_path: Path, points: list[tuple[int, int]]) -> None:
    trained = load_trained(write_checkpoint(tmp_path / "best.pt"))
    card = write_card(trained, tmp_path, name="n", description="", accuracies=[], kind="onnx").read_text()
    snippet: dict[str, object] = {}
    exec(re.search(r"```python\n(.*?)```", card, re.DOTALL).group(1), snippet)  # type: ignore[union-attr]
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    _, found_N2, edges_2E = snippet["side"](tmp_path / "a.png", points)  # type: ignore[operator]
    np.testing.assert_array_equal(edges_2E, delaunay_edges(found_N2))
