"""A matcher that is quick to build, and its checkpoint, for tests in any folder."""

from __future__ import annotations

from pathlib import Path

from nmt import checkpoint
from nmt.config import Config, to_dict, with_overrides
from nmt.model.build import build_matcher

SMALL = {
    "data.image_size": 64,
    "model.backbone": "tf_efficientnet_lite0",
    "model.weights": "random",
    "model.d_model": 24,
    "model.heads": 3,
    "model.decoder_layers": 1,
}


def write_checkpoint(path: Path) -> Path:
    """Write best.pt of a matcher that was not trained, images mode; returns its path."""
    config = with_overrides(Config(), SMALL, source="test")
    matcher = build_matcher(config.model, image_size=64, features=None)
    path.parent.mkdir(parents=True, exist_ok=True)
    checkpoint.save(
        path, {"model": matcher.state_dict(), "config": to_dict(config), "categories": [], "epoch": 1, "metrics": {}}
    )
    return path
