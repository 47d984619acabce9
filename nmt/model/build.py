"""Construction of a matcher from its configuration."""

from __future__ import annotations

import dataclasses
from typing import Protocol

import torch

from nmt.config import ModelConfig
from nmt.model.matcher import Head, Matcher


class FeatureWidths(Protocol):
    """Widths of stored features, which a FeatureTable has: of keypoint features, and of the global feature."""

    @property
    def channels(self) -> int: ...
    @property
    def global_channels(self) -> int: ...


def build_matcher(
    model: ModelConfig, *, image_size: int, features: FeatureWidths | None, seed: int = 0, pretrained: bool = True
) -> Matcher:
    """Build a matcher with freshly initialised head weights, on the CPU.

    Args:
        model: architecture, and backbone weights.
        image_size: side of the square images, pixels.
        features: widths of stored features, for a matcher without backbone (features mode); None: build the backbone
            too (images mode).
        seed: seed of the initial weights. The caller's random state is not changed.
        pretrained: load the backbone's weights; False where a checkpoint replaces them anyway.

    Raises:
        UserError: see nmt.model.backbone.build_backbone.
    """
    from nmt.model.backbone import build_backbone

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if features is not None:
            backbone, channels, global_channels = None, features.channels, features.global_channels
        else:
            built = model if pretrained else dataclasses.replace(model, weights="random")
            backbone = build_backbone(built, image_size)
            channels, global_channels = sum(backbone.channels), backbone.global_channels
            torch.manual_seed(seed)  # again, so that a head's initial weights do not depend on the mode
        head = Head(model, channels=channels, global_channels=global_channels)
    return Matcher(head, backbone)


def build_shapes(model: ModelConfig, *, image_size: int, features: FeatureWidths | None) -> Matcher:
    """Build a matcher for the shapes of its tensors: without values and memory, where its backbone allows that.

    Raises:
        UserError: see nmt.model.backbone.build_backbone.
    """
    try:
        with torch.device("meta"):
            return build_matcher(model, image_size=image_size, features=features, pretrained=False)
    except (NotImplementedError, RuntimeError):  # a backbone that computes with its weights while it is built
        return build_matcher(model, image_size=image_size, features=features, pretrained=False)
