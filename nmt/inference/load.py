"""Finding and loading the checkpoint of a trained matcher."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nmt import checkpoint
from nmt.config import Config, from_dict
from nmt.errors import UserError
from nmt.model.matcher import Matcher

CHECKPOINT = "best.pt"
"""The best weights in the folder of a training."""


def load_model(path: Path) -> tuple[Matcher, Config, list[str]]:
    """Load the model of a checkpoint (best.pt or checkpoint.pt), its configuration and its training categories.

    A checkpoint of features mode gives a matcher without backbone. Raises UserError as `checkpoint.load` does.
    """
    from nmt.model.build import build_matcher

    content = checkpoint.load(path)
    config = from_dict(content["config"], source=str(path))
    weights = content["model"]
    if config.data.mode == "features":
        features = _Widths(weights["head.node_linear.weight"].shape[1], weights["head.global_linear.weight"].shape[1])
    else:
        features = None
    frozen = config.data.mode == "images" and config.optim.backbone_lr_scale == 0
    matcher = build_matcher(config.model, image_size=config.data.image_size, features=features, pretrained=frozen)
    matcher.load_state_dict(weights, strict=not frozen)
    return matcher.eval(), config, content["categories"]


def find_checkpoint(path: str | Path) -> Path:
    """Find the weights of a training by its folder; a checkpoint file is itself. Raises UserError."""
    path = Path(path)
    if not path.is_dir():
        return path
    if not (path / CHECKPOINT).is_file():
        raise UserError(f"{path}: no {CHECKPOINT} in this folder; give a training's folder or a checkpoint file")
    return path / CHECKPOINT


@dataclass(frozen=True)
class _Widths:
    channels: int
    global_channels: int
