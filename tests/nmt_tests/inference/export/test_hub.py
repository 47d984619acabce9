"""A repository of a model hub is complete: it matches as the checkpoint does, without any other file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from nmt.api import load_matcher
from nmt.config import Config, with_overrides
from nmt.errors import UserError
from nmt.inference.export.hub import shareable, write_hub
from nmt.inference.load import load_trained
from tests.small_model import write_checkpoint


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    write_hub(load_trained(write_checkpoint(tmp_path / "training" / "best.pt")), tmp_path / "repository")
    return tmp_path / "repository"


def test_it_is_read_as_the_checkpoint_it_came_from(repository: Path) -> None:
    generator = np.random.default_rng(0)
    pictures = [generator.integers(0, 256, (60, 80, 3), np.uint8) for _ in range(2)]
    points = [generator.uniform(0, 60, (7, 2)) for _ in range(2)]
    found = [
        load_matcher(path, device="cpu").match(pictures[0], points[0], pictures[1], points[1])
        for path in (repository.parent / "training", repository, repository / "model.safetensors")
    ]
    for matches in found[1:]:
        assert np.array_equal(matches.indices, found[0].indices)
        np.testing.assert_allclose(matches.similarity, found[0].similarity, atol=1e-6)
    assert sorted(path.name for path in repository.iterdir()) == ["config.json", "model.safetensors"]


def test_a_folder_of_a_training_is_left_alone(repository: Path) -> None:
    (repository / "config.json").write_text(json.dumps({"data": {}}))
    with pytest.raises(UserError, match="holds a training"):
        write_hub(load_trained(repository.parent / "training" / "best.pt"), repository)


def test_the_folder_of_a_file_of_weights_stays_on_this_machine() -> None:
    config = with_overrides(Config(), {"model.weights": "/home/me/secret/swin.pth"}, source="test")
    assert shareable(config).model.weights == "swin.pth"
    assert shareable(Config()) == Config()
