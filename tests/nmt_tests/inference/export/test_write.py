"""Written programs compute what the matcher computes, at any number of keypoints."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from nmt.api import load_matcher
from nmt.confidence import Calibration
from nmt.errors import FailedError
from nmt.inference.export import write
from nmt.inference.export.card import write_card
from nmt.inference.export.write import TOLERANCE, write_programs
from nmt.inference.load import Trained, load_trained
from tests.small_model import write_checkpoint

CALIBRATION = Calibration(
    weights=(0.9, -0.5, -0.4, 3.0), bias=0.2, threshold=0.4, chosen="f1", pairs={"inter": 10}, figures={}, curve=()
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    found = load_trained(write_checkpoint(tmp_path_factory.mktemp("export") / "best.pt"))
    return dataclasses.replace(found, calibration=CALIBRATION, categories=["bird"])


@pytest.fixture(scope="module")
def onnx(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("onnx")
    written = write_programs(trained, folder, format="onnx")
    assert (
        [found.path.name for found in written]
        == ["matcher.onnx", "head.onnx"]
        == sorted((path.name for path in folder.iterdir()), reverse=True)
    )
    assert all(0 <= found.difference <= TOLERANCE for found in written)
    return folder


@pytest.mark.slow
def test_the_snippet_of_the_card_finds_the_matches_of_the_matcher(
    trained: Trained, onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On pictures that are not square, with as many keypoints as the file was not traced with."""
    from PIL import Image

    card = write_card(trained, onnx, name="small", description="", accuracies=[], kind="onnx").read_text()
    monkeypatch.chdir(onnx)
    snippet: dict[str, object] = {}
    exec(re.search(r"```python\n(.*?)```", card, re.DOTALL).group(1), snippet)  # type: ignore[union-attr]
    generator = np.random.default_rng(0)
    paths, points = [], []
    for n, (height, width, num) in enumerate([(90, 140, 9), (120, 70, 6)]):
        image = generator.integers(0, 256, (height // 10, width // 10, 3), np.uint8)
        Image.fromarray(image).resize((width, height)).save(path := tmp_path / f"{n}.png")
        paths.append(path)
        points.append(generator.uniform(0, (width, height), (num, 2)))
    match0, confidence0 = snippet["match"](paths[0], points[0], paths[1], points[1])  # type: ignore[operator]
    matcher = load_matcher(write_checkpoint(tmp_path / "best.pt"), device="cpu")
    matcher.calibration = dataclasses.replace(CALIBRATION, threshold=0.0)
    matches = matcher.match(paths[0], points[0], paths[1], points[1])
    assert matches.indices.tolist() == [[n, m] for n, m in enumerate(match0.tolist())]
    np.testing.assert_allclose(matches.confidence, confidence0, atol=1e-3)


@pytest.mark.slow
def test_a_torch_program_needs_nothing_of_this_project(trained: Trained, tmp_path: Path) -> None:
    (matcher, head) = write_programs(trained, tmp_path, format="torch")
    assert matcher.difference <= TOLERANCE and head.difference <= TOLERANCE
    program = torch.export.load(str(head.path))
    assert not any("nmt." in str(node.target) for node in program.graph.nodes)


def test_a_program_that_computes_something_else_is_not_kept(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other(path: Path) -> write.Run:
        return lambda values: [np.zeros(len(values[1]), np.int64), np.zeros(len(values[1])), np.zeros((1, 1))]

    monkeypatch.setattr(write, "_write_torch", lambda module, inputs, example, path: path.write_bytes(b"program"))
    monkeypatch.setattr(write, "_open_torch", other)
    with pytest.raises(FailedError, match=r"matcher\.pt2: not written: with 7 and 11 keypoints its confidence0"):
        write_programs(trained, tmp_path, format="torch")
    assert list(tmp_path.iterdir()) == []
