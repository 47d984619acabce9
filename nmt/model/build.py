"""TODO docstring of nmt.model.build."""

from __future__ import annotations

import dataclasses
from typing import Protocol

import torch

from nmt.config import ModelConfig
from nmt.model.matcher import Head, Matcher


class FeatureWidths(Protocol):
    """Widths of stored features; a FeatureTable has them."""

    @property
    def channels(self) -> int: ...
    @property
    def global_channels(self) -> int: ...


def build_matcher(
    model: ModelConfig, *, image_size: int, features: FeatureWidths | None, seed: int = 0, pretrained: bool = True
) -> Matcher:
    """A matcher with fresh head weights, on the CPU.

    Args:
        features: with a table of features (or their widths) the matcher is a head alone; without, the backbone is
            built, with its weights if `pretrained`.
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
            torch.manual_seed(seed)
        head = Head(model, channels=channels, global_channels=global_channels)
    return Matcher(head, backbone, image_size=image_size)
