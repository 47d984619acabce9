"""Loading of a trained matcher from its checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nmt import checkpoint
from nmt.config import Config, from_dict
from nmt.model.matcher import Matcher


def load_matcher(path: Path) -> tuple[Matcher, Config, list[str]]:
    """Load the matcher of a checkpoint, in evaluation mode on the CPU.

    Args:
        path: best.pt or checkpoint.pt.

    Returns:
        The matcher, its configuration, and the categories it was trained on. A checkpoint of features mode gives a
        matcher without backbone.

    Raises:
        UserError: missing or damaged, not a checkpoint, or a frozen backbone whose weights cannot be found.
    """
    from nmt.model.build import build_matcher

    content = checkpoint.load(path)
    config = from_dict(content["config"], source=str(path))
    weights = content["model"]
    if config.data.mode == "features":
        features = _Widths(weights["head.node_linear.weight"].shape[1], weights["head.global_linear.weight"].shape[1])
    else:
        features = None
    # A frozen backbone is not in the checkpoint: its weights come from where the training took them.
    frozen = config.data.mode == "images" and config.optim.backbone_lr_scale == 0
    matcher = build_matcher(config.model, image_size=config.data.image_size, features=features, pretrained=frozen)
    matcher.load_state_dict(weights, strict=not frozen)
    return matcher.eval(), config, content["categories"]


@dataclass(frozen=True)
class _Widths:
    """Widths of the features that a head was trained on."""

    channels: int
    global_channels: int
