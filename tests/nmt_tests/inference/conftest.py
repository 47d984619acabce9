"""A checkpoint of a small matcher, and a picture with keypoints."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.small_model import write_checkpoint


@pytest.fixture(scope="session")
def small_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """best.pt of a matcher that was not trained, images mode."""
    return write_checkpoint(tmp_path_factory.mktemp("training") / "best.pt")


@pytest.fixture
def picture() -> np.ndarray:
    """(80, 100, 3): noise that is smooth enough to survive resizing."""
    noise = np.random.default_rng(0).integers(0, 256, (8, 10, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(noise).resize((100, 80), Image.Resampling.BICUBIC))


@pytest.fixture
def keypoints() -> dict[str, tuple[float, float]]:
    """Five keypoints of the picture."""
    return {"nose": (12.0, 10.0), "tail": (90.0, 70.0), "ear": (50.0, 8.0), "paw": (20.0, 66.0), "back": (61.0, 35.0)}
