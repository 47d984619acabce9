"""The pixels that maps cover: a bright dot moves, and the cells that see it move with it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from nmt.config import ModelConfig
from nmt.model.area import Area, Cells, covered, tracing
from nmt.model.backbone import BACKBONES, Backbone, BackboneMaps, build_backbone, register_backbone

NETS = {  # a multiple of the net's stride, and a size that is none
    "swinv2_tiny_window8_256": (128, 144),
    "vgg16_bn": (96, 106),
    "efficientnet_lite0": (160, 180),
    "convnext_atto": (128, 156),
    "vit_tiny_patch16_224": (96, 108),
    "vit_small_patch14_dinov2": (98, 109),
    "vit_tiny_patch16_dinov3_qkvb": (96, 108),
}


def build(name: str, size: int) -> Backbone:
    weights = "package" if name == "efficientnet_lite0" else "random"
    return build_backbone(ModelConfig(backbone=name, weights=weights), size)


def dots(size: int) -> tuple[Tensor, Tensor]:
    """A grey image and the same with a bright dot at each of some places: images, and the dots' centres."""
    x = torch.linspace(0.3 * size, 0.7 * size, 12).long()
    corner_K2 = torch.stack([x, x[torch.randperm(12, generator=torch.Generator().manual_seed(0))]], dim=1)
    images = torch.full((13, 3, size, size), 127, dtype=torch.uint8)
    for k, (left, top) in enumerate(corner_K2.tolist(), start=1):
        images[k, :, top - 1 : top + 2, left - 1 : left + 2] = 255
    return images, corner_K2 + 0.5


def errors(map_BCHW: Tensor, area: Area, centres_K2: Tensor) -> Tensor:
    """Where the map changes by the dots, less where they are, (K, 2) in cells."""
    # Squared once more: attention changes all cells a little.
    change_KHW = (map_BCHW[1:] - map_BCHW[:1]).square().sum(1).square()
    width = change_KHW.shape[-1]
    cell = area.side / width
    middle_W = area.start + cell * (torch.arange(width) + 0.5)
    seen = [(change_KHW.sum(dim) * middle_W).sum(1) / change_KHW.sum((1, 2)) for dim in (1, 2)]
    return (torch.stack(seen, dim=1) - centres_K2) / cell


@pytest.mark.parametrize(("name", "size"), [(name, size) for name, sizes in NETS.items() for size in sizes])
def test_a_bright_dot_is_seen_where_the_map_is_read(name: str, size: int) -> None:
    backbone = build(name, size)
    images, centres_K2 = dots(size)
    with torch.no_grad():
        maps = backbone(images)
    assert backbone.areas is not None
    for map_BCHW, area in zip(maps[:2], backbone.areas, strict=True):
        found_K2 = errors(map_BCHW, area, centres_K2)
        cell = area.side / map_BCHW.shape[-1]
        assert found_K2.abs().max() <= 0.5 + 1.5 / cell, "more than half a cell and half a dot away"
        assert found_K2.mean(0).abs().max() < 0.16
        if size == NETS[name][0]:
            assert area == (0, size)
        else:
            whole_K2 = errors(map_BCHW, Area(0, size), centres_K2)
            assert whole_K2.mean(0).abs().max() > found_K2.mean(0).abs().max() + 0.1, "read at p / size, it is off"


def test_keypoints_read_the_cells_that_cover_them() -> None:
    backbone = build("vit_small_patch14_dinov2", 384)
    assert backbone.areas == ((0, 378), (0, 378))
    first, second = (torch.randn(1, 3, 27, 27, generator=torch.Generator().manual_seed(k)) for k in (0, 1))
    centre_BN2 = 14 * torch.tensor([[[0.5, 0.5], [20.5, 3.5], [26.5, 26.5]]])  # column 20, row 3
    nodes_BNC = backbone.sample(BackboneMaps(first, second, torch.zeros(1, 1)), centre_BN2)
    for values, map_BCHW in ((nodes_BNC[0, :, :3], first), (nodes_BNC[0, :, 3:], second)):
        cells = nn.functional.normalize(map_BCHW, dim=1)[0, :, [0, 3, 26], [0, 20, 26]].T
        torch.testing.assert_close(values, cells, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("layers", "width", "expected"),
    [
        ([nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.MaxPool2d(2)], 25, (0, 100)),
        ([nn.Conv2d(3, 4, 5, padding=2), nn.AvgPool2d(3)], 33, (0, 99)),
        ([nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 14, stride=14)], 7, (1, 98)),
    ],
)
def test_cells_are_traced_through_convolutions_and_poolings(
    layers: list[nn.Module], width: int, expected: tuple[int, int]
) -> None:
    net = nn.Sequential(*layers)
    with tracing(net, 100) as levels:
        net(torch.zeros(1, 3, 100, 100))
    assert covered(levels, width, 100) == expected
    assert not any(module._forward_hooks for module in net.modules())


@pytest.mark.parametrize(
    ("finest", "width", "expected"),
    [
        (Cells(4, 0), 7, (0, 112)),  # 25 to 13 to 7, rounded up
        (Cells(4, -2), 3, (-2, 96)),  # 25 to 12 to 6 to 3, rounded down
        (Cells(4, 0), 10, (0, 100)),  # no merging two by two makes 10 of 25
    ],
)
def test_levels_that_no_convolution_makes_are_merged_two_by_two(
    finest: Cells, width: int, expected: tuple[int, int]
) -> None:
    assert covered({100: Cells(1, 0), 25: finest}, width, 100) == expected


def test_a_registered_backbone_is_traced_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BACKBONES, "_items", {})

    @register_backbone("mine")
    def build(model: ModelConfig, image_size: int) -> Backbone:
        def read(net: nn.Conv2d, images: Tensor) -> BackboneMaps:
            second = net(images)
            return BackboneMaps(images, second, second.mean(dim=(2, 3)))

        net, half = nn.Conv2d(3, 5, 7, stride=7), (0.5, 0.5, 0.5)
        return Backbone(net, read, channels=(3, 5), global_channels=5, mean=half, std=half)

    assert build_backbone(ModelConfig(backbone="mine", weights="random"), 32).areas == ((0, 32), (0, 28))
