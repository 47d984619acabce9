"""The layers of backbones."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from nmt.config import ModelConfig
from nmt.errors import UserError
from nmt.model.backbone import Backbone, BackboneMaps, build_backbone
from nmt.model.layers import layer_numbers


def numbers_of(name: str, size: int) -> dict[str, int]:
    return layer_numbers(build_backbone(ModelConfig(backbone=name, weights="random"), size), name=name)


@pytest.mark.parametrize(
    ("name", "size", "blocks"),
    [
        ("test_vit", 160, [f"blocks.{k}.attn.qkv.weight" for k in range(6)]),
        ("test_convnext", 160, [f"stages.{k}.blocks.0.mlp.fc1.weight" for k in range(4)]),
        ("tf_efficientnet_lite0", 64, [f"blocks.{k}.0.bn1.weight" for k in range(7)]),
        ("vgg16_bn", 64, [f"features.{k}.weight" for k in (0, 3, 7, 10, 14, 17, 20, 24)]),
        ("resnet18", 64, [f"layer{k}.0.conv1.weight" for k in (1, 2, 3, 4)]),
    ],
)
def test_deeper_blocks_have_higher_numbers_and_the_stem_has_zero(name: str, size: int, blocks: list[str]) -> None:
    numbers = numbers_of(name, size)
    assert set(numbers.values()) == set(range(max(numbers.values()) + 1))
    found = [numbers[block] for block in blocks]
    assert found == sorted(set(found))
    assert numbers[next(iter(numbers))] == 0


def test_swinv2_has_a_layer_for_each_of_its_blocks() -> None:
    numbers = numbers_of("swinv2_tiny_window8_256", 256)
    depths = (2, 2, 6, 2)
    blocks = [f"layers.{s}.blocks.{b}.mlp.fc1.weight" for s, depth in enumerate(depths) for b in range(depth)]
    assert [numbers[block] for block in blocks] == list(range(1, 13))
    assert numbers["patch_embed.proj.weight"] == 0


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 4, 8, 8), nn.Conv2d(4, 4, 1)


class Grouped(Net):
    def __init__(self, matcher: dict[str, Any]) -> None:
        super().__init__()
        self.matcher = matcher

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        return self.matcher


def wrapped(net: nn.Module) -> Backbone:
    def read(net: Any, x_B3HW: torch.Tensor) -> BackboneMaps:
        first = net.first(x_B3HW)
        return BackboneMaps(first, net.last(first), first.mean((2, 3)))

    return Backbone(net, read, channels=(4, 4), global_channels=4, mean=(0.5,) * 3, std=(0.5,) * 3)


def test_a_registered_backbone_has_layers_if_its_net_says_so() -> None:
    backbone = wrapped(Grouped({"stem": r"^first", "blocks": r"^last"}))
    numbers = layer_numbers(backbone, name="mine")
    assert numbers["first.weight"] < numbers["last.weight"] and numbers["first.bias"] == numbers["first.weight"]


@pytest.mark.parametrize(
    ("net", "reason"),
    [
        (Net(), "the net has no group_matcher"),
        (Grouped({"stem": r"^first", "blocks": r"^(last)"}), "could not convert string to float: 'last'"),
        (Grouped({"stem": r"^(first"}), r"missing \), unterminated subpattern at position 1"),
    ],
)
def test_a_net_that_does_not_say_its_layers_is_named_with_the_way_out(net: nn.Module, reason: str) -> None:
    found = rf"model.backbone=mine does not say which layers it has \({reason}\); set optim.layer_decay to 1"
    with pytest.raises(UserError, match=found):
        layer_numbers(wrapped(net), name="mine")
